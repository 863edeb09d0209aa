"""Networks on whole images with torch: windows, tiles, feathering, operations."""
