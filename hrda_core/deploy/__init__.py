"""Makes a trained network ready for a robot: export, exact folding of layers, precision."""
