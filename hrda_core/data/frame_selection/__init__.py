"""Which frames of a drive are worth adapting to, and the frames that were chosen."""
