"""Adaptation on recordings: select frames, train, judge without labels, adopt or keep."""
