"""The errors a user can meet, and helpers for their sentences and for optional packages.

    HrdaError                  base; commands print its text and end with exit code 2
    |-- BundleError            a model folder that is missing, damaged or of another format version
    |-- BackendError           the asked-for inference back end cannot run on this machine
    |   `-- GpuError           no driver, no device, out of memory, or a call on the GPU that failed
    |-- ImageError             an image or camera message that cannot be used; `cause` is a short key for counters
    |-- LabelSpaceError        class names, palette or id maps that contradict each other
    |-- DataError              a data set folder or file that cannot be used
    |-- CheckpointError        a foreign weights file that is damaged, unsafe, or does not fit the network
    |-- RecipeError            an option or recipe value that makes no sense
    |-- TrainingError          a training run that cannot go on: a loss that is not finite
    `-- MissingPackageError    an optional package is not installed

Every message says what was being done, what was found, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "BackendError",
    "BundleError",
    "CheckpointError",
    "DataError",
    "GpuError",
    "HrdaError",
    "ImageError",
    "LabelSpaceError",
    "MissingPackageError",
    "RecipeError",
    "TrainingError",
    "first_misfit",
    "one_line",
    "proposal",
    "require",
]


class HrdaError(Exception):
    """Base of all errors that a user's input or environment can cause."""


class BundleError(HrdaError):
    """A model bundle is missing, damaged, or written in another format version."""


class BackendError(HrdaError):
    """The requested inference back end or plan is not available."""


class GpuError(BackendError):
    """The GPU cannot be used: no driver, no device, out of memory, or a call that failed."""


class ImageError(HrdaError):
    """An image or image message that cannot be turned into pixels.

    Attributes:
        cause: short stable key (letters and underscores), used to count refusals by cause.
    """

    def __init__(self, message: str, cause: str = "image") -> None:
        super().__init__(message)
        self.cause = cause


class LabelSpaceError(HrdaError):
    """A label space that contradicts itself or the labels at hand."""


class DataError(HrdaError):
    """A data set folder, bag or file that cannot be used."""


class CheckpointError(HrdaError):
    """A foreign weights file that is damaged, asks to run code, or does not fit the network; nothing was loaded."""


class RecipeError(HrdaError):
    """A recipe or command line value that makes no sense."""


class TrainingError(HrdaError):
    """A training run that cannot go on; what it had reached is kept."""


class MissingPackageError(HrdaError):
    """An optional package that a feature needs is not installed."""


def one_line(error: Exception) -> str:
    """What an error of a library says, without line ends; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_misfit(error: RuntimeError) -> str:
    """The first thing that PyTorch says does not fit: its list stands below a heading."""
    return str(error).splitlines()[1 if "\n" in str(error) else 0].strip()


def proposal(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence on an unknown name: the known one that is most like it, or all of them.

    Args:
        prefix: what stands before the proposed name.
    """
    known = tuple(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(known)}"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Args:
        module: import name, for example `"onnxruntime"`.
        extra: the extra of `setup.py` that brings it, for example `"runtime"`.

    Raises:
        MissingPackageError: the package is not installed, or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"the Python package '{module}' is needed here and does not import ({error}); "
            f"install it with: pip install 'hrda_ros[{extra}]'"
        ) from error
