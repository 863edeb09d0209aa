"""The network that the node runs: what it must offer, and how it is made from the node's settings. No rclpy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BundleError
from hrda_core.inference import Prediction, Predictor
from hrda_core.labels import LabelSpace
from hrda_ros.parameters import Settings

__all__ = ["DEFAULT_MODEL", "ModelInfo", "Segmenter", "default_model_path", "open_segmenter"]

DEFAULT_MODEL = "hrda_lite"


class ModelInfo(Protocol):
    """The part of a `hrda_core.inference.Bundle` that the node shows."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def preset(self) -> str:
        """Name of the network."""
        ...

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the mask ids."""
        ...


class Segmenter(Protocol):
    """What the node needs of a `hrda_core.inference.Predictor`."""

    plan: str

    @property
    def bundle(self) -> ModelInfo:
        """The model that runs."""
        ...

    @property
    def backend_description(self) -> str:
        """What runs where, for logs and diagnostics."""
        ...

    def warm_up(self, height: int, width: int) -> None:
        """Run once on an image of this size, pixels."""
        ...

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> Prediction:
        """Masks of a uint8 (H, W, 3) RGB image, which is only read."""
        ...


def open_segmenter(settings: Settings) -> Segmenter:
    """Load the bundle that the settings name.

    Raises:
        HrdaError: the bundle or the back end cannot be used.
    """
    return Predictor(
        Path(settings.model).expanduser() if settings.model else default_model_path(),
        settings.backend,
        settings.plan or None,
        long_side=None if settings.long_side < 0 else settings.long_side,
        threads=settings.threads,
    )


def default_model_path() -> Path:
    """Folder of the bundle `hrda_lite`: in the package's share folder, or in the source tree.

    Raises:
        BundleError: it is in neither.
    """
    candidates = [folder / "models" / DEFAULT_MODEL for folder in _package_folders()]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    places = ", ".join(str(candidate) for candidate in candidates)
    raise BundleError(
        f"no model was named and the default bundle '{DEFAULT_MODEL}' is in none of {places}; "
        f"set the parameter 'model' to the folder of a bundle"
    )


def _package_folders() -> Iterator[Path]:
    try:
        from ament_index_python.packages import get_package_share_directory

        yield Path(get_package_share_directory("hrda_ros"))
    except (ImportError, LookupError, OSError):  # no ROS, not installed there, or AMENT_PREFIX_PATH is not set
        pass
    yield Path(sys.prefix) / "share" / "hrda_ros"
    yield Path(__file__).resolve().parents[1]
