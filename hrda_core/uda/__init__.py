"""The training method: losses, sampling and teacher, as pure functions of tensors and random generators.

Each formula of the paper is in the file of its name; docs/research/training.md lists them. `hrda_core/__init__.py` says
what "paper" and "spec section" mean.
"""
