"""Reads what is left of a recording that was cut or overwritten, with a walk for each format."""
