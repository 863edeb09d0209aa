"""What can still be read of a recording that was cut or overwritten, a walk for each format."""
