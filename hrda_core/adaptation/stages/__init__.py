"""The stages of an adaptation in their order: frames, source, instant, train, judge, ask, adopt, report."""
