"""What the node says of itself: diagnostics, resources, and why no image arrives."""
