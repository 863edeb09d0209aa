"""One pass over a recording: cameras, timing, quality of the frames."""
