"""The stages of an adaptation, in the order in which they run: frames, source, instant, train, judge, adopt, report."""
