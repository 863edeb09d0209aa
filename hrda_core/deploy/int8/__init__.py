"""8-bit graphs: calibration, the choice of layers, and what they cost."""
