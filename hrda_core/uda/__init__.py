"""The training method: losses, sampling and teacher, as pure functions of tensors and random generators.

"The paper" is arXiv 2304.13615. A "spec section" is one of the description of the reference implementation that this
code was written from; the description is not part of this repository.
"""
