"""What happens around a node: what is checked before it starts, how its process runs and ends, and who calls it."""
