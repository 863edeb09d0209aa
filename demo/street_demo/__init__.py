"""The parts of `make demo`. The scripts beside this folder are the processes that use them."""
