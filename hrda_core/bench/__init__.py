"""Measures what a bundle costs on this machine: operations, time, memory, and the share of the roofline."""
