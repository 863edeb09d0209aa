"""The training method: losses, sampling, teacher. Pure functions of tensors and generators."""
