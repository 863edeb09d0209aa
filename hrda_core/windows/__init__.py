"""Runs networks on whole images with torch: windows, detail tiles, feathering, and counts of operations."""
