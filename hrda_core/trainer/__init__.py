"""The training loop: optimiser, schedule, checkpoints, progress."""
