"""Random changes of training images: geometry and appearance."""
