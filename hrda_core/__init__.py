"""The networks of DAFormer and HRDA, their training and their inference, without ROS and without a command line.

"The paper" in the docstrings below is arXiv 2304.13615 (TPAMI 2024), which describes DAFormer and HRDA together. A
"spec section" is one of the description of the reference implementation that this code was written from; the
description is not part of this repository. Importing this package loads nothing heavy; `hrda_core.inference` needs no
torch, `hrda_core.models` does.
"""

import os

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime's wheels for Linux send figures of use to its makers unless this is set before they are
# loaded; https://github.com/microsoft/onnxruntime/pull/27379. Child processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
