"""Checks what the node and every command stand on: numpy, PyYAML and OpenCV must import together.

On a robot they come from the ROS distribution. Its OpenCV was built for one binary interface of numpy: that of Ubuntu
22.04 for numpy 1. A numpy 2 that pip brought for something else breaks it, for every program of that user.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys

from hrda_core.errors import MissingPackageError, how_to_install, one_line

__all__ = ["check_libraries"]


def check_libraries() -> None:
    """Import numpy, PyYAML and OpenCV.

    Raises:
        MissingPackageError: one of them does not import; the text is one sentence that names what to run.
    """
    for module in ("numpy", "yaml", "cv2"):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):  # numpy writes a page about modules of the other interface
                importlib.import_module(module)
        except (ImportError, AttributeError) as error:
            raise MissingPackageError(_sentence(module, error, said.getvalue())) from error
        with contextlib.suppress(OSError, AttributeError):  # a full disk, no standard error
            sys.stderr.write(said.getvalue())


def _sentence(module: str, error: Exception, said: str) -> str:
    if module == "cv2" and ("_ARRAY_API" in said or "numpy" in str(error)):
        numpy = sys.modules["numpy"]
        remedy = "install an older one: pip install 'numpy<2'"
        if os.environ.get("AMENT_PREFIX_PATH"):
            remedy = f"{how_to_install('runtime')} and brings the numpy of this OpenCV back"
        return (
            f"OpenCV (cv2) was built for another numpy and does not import beside numpy {numpy.__version__} in "
            f"{numpy.__path__[0]}; {remedy}"
        )
    return (
        f"the Python module '{module}' is needed and does not import ({one_line(error)}); {how_to_install('runtime')}"
    )
