"""The network that the node runs: its interface, and how it is made from the node's settings. Needs no rclpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.inference import Prediction, Predictor
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.model_folders import FoundModel, default_model, find_model
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.say import Say, silent
from hrda_core.labels import LabelSpace
from hrda_ros.settings.parameters import Settings

__all__ = ["WARM_UP_SIZE", "ModelInfo", "Segmenter", "open_segmenter", "warmed_up"]

WARM_UP_SIZE = (720, 1280)
"""Height and width of the image that a model segments once before it serves, where nothing else says what will come,
pixels."""


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

    @property
    def static_graphs(self) -> tuple[GraphSpec, ...]:
        """Graphs that are made for one image size each."""
        ...


class Segmenter(Protocol):
    """The part of a `hrda_core.inference.Predictor` that the node needs. Use it from one caller at a time."""

    @property
    def plan(self) -> str:
        """The window plan that runs."""
        ...

    @property
    def bundle(self) -> ModelInfo:
        """The model that runs."""
        ...

    @property
    def graph(self) -> GraphSpec:
        """The graph that ran last, or that will run first."""
        ...

    @property
    def backend_description(self) -> str:
        """What runs where, and why nothing faster does, for logs and diagnostics."""
        ...

    def warm_up(self, height: int, width: int) -> None:
        """Run once on an image of this size, pixels."""
        ...

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> Prediction:
        """Masks of a uint8 (H, W, 3) RGB image, which is only read."""
        ...

    @property
    def takes_batch(self) -> bool:
        """Whether `batch` takes several images, in the graph that ran last."""
        ...

    def batch(self, images: Sequence[npt.NDArray[np.uint8]]) -> Sequence[Prediction]:
        """Masks of uint8 (H, W, 3) RGB images of one size, in one run of the back end."""
        ...

    def close(self) -> None:
        """Free the memory that it holds."""
        ...


def open_segmenter(settings: Settings, say: Say = silent) -> Predictor:
    """Load the bundle that the settings name.

    Args:
        say: takes lines for the log, from any thread: builds and their progress, waits, and as warnings hand-overs to
            the CPU.

    Raises:
        HrdaError: the bundle or the back end cannot be used.
    """
    found = find_model(settings.model) if settings.model else FoundModel(default_model())
    if found.remark:
        say(found.remark)
    return Predictor(
        found.path,
        settings.backend,
        settings.plan or None,
        long_side=None if settings.long_side < 0 else settings.long_side,
        threads=settings.threads,
        precision=settings.precision,
        on_gpu_failure=settings.on_gpu_failure,
        build_engine=settings.build_engine,
        openvino=OpenVinoOptions(settings.device, settings.inference_precision),
        sizes=len(settings.cameras.split(",")),
        network_size=settings.masks_size == "network",
        say=say,
    )


def warmed_up(segmenter: Segmenter, image_sizes: Sequence[tuple[int, int]] = ()) -> Segmenter:
    """Run a model once, so that it is ready for its first frame, and return it. One that cannot run is closed.

    Args:
        image_sizes: height and width of the images of each camera, pixels; empty = not known yet. The model then runs
            in each size for which its plan has a graph, so that engines are loaded, or built, before the first frame.

    Raises:
        HrdaError: it cannot run.
    """
    try:
        for size in dict.fromkeys(image_sizes or _expected_sizes(segmenter)):
            segmenter.warm_up(*size)
    except BaseException:
        segmenter.close()
        raise
    return segmenter


def _expected_sizes(segmenter: Segmenter) -> list[tuple[int, int]]:
    sizes = [graph.size for graph in segmenter.bundle.static_graphs if graph.plan == segmenter.plan]
    return [size for size in sizes if size is not None] or [WARM_UP_SIZE]
