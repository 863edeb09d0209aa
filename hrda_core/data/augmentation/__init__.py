"""Changes of labelled images in training: geometry and appearance."""
