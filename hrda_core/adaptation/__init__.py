"""Adaptation on recordings without labels: select frames, train, judge, and adopt a better model or keep the old."""
