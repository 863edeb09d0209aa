"""The network that runs, and which one of several: exchanged between two frames, or chosen by a latency budget."""
