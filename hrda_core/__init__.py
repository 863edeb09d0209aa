"""hrda_core: DAFormer and HRDA networks, their training, and inference. No ROS, no command line.

Importing this package loads nothing heavy; `hrda_core.inference` needs no torch, `hrda_core.models` does.
"""

__version__ = "0.1.0"
