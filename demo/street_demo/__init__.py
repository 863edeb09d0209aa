"""The parts of `make demo`: one idea a file. The scripts beside this folder are the processes that use them."""
