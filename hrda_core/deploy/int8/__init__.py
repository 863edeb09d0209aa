"""8-bit graphs: calibration, the choice of layers, and the agreement with floating point."""
