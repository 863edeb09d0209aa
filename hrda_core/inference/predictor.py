"""From an RGB image of any size to class ids and confidence of the same size, for the node and all commands.

An image is resized as the bundle says (`Bundle.scale`) and padded to the window plan's size at the bottom and right by
repeating the border; the back end runs; the result is cropped and brought back to the image's size (nearest neighbour).
Normalisation, context resize, detail crops, fusion, upsampling and argmax are inside the graph.

Where the bundle has a graph made for the image's size, that one runs (it is faster, and the only kind that becomes a
TensorRT engine); otherwise the one for any size runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import AnswerError, BackendError, ImageError, MissingPackageError
from hrda_core.inference.answers import check_answer, prove, prove_batch
from hrda_core.inference.backends import Backend, Reason, open_backend
from hrda_core.inference.backends.fallback import FallBackBackend
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.bundle import PRECISIONS, Bundle, GraphSpec
from hrda_core.inference.image_plan import graph_for_image, plan_for_graph
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.room import check_room
from hrda_core.inference.say import Level, Say, silent
from hrda_core.inference.tensorrt.progress import log_lines
from hrda_core.memory import within_free_memory
from hrda_core.resizing import resize_image, resize_map
from hrda_core.window_plan import PlanChoice, WindowPlan

__all__ = ["PRECISION_CHOICES", "Prediction", "Predictor"]

PRECISION_CHOICES = ("auto", *PRECISIONS)
"""What a user can ask for. `auto` takes fp16 where a TensorRT engine of it is there, else fp32."""

_KEPT_OPEN = 2
"""Graphs that stay open for images of changing sizes, unless more sizes are expected."""

_KEPT_PLANS = 64

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """Masks of one image, of its size or, where a `Predictor` was asked for that, of the size to which it is resized.

    Attributes:
        labels: uint8 (H, W), class ids of the bundle's label space.
        confidence: uint8 (H, W), probability of the winning class times 255.
    """

    labels: UInt8Array
    confidence: UInt8Array


@dataclass
class _Opened:
    """A graph in a back end, and the plans of image sizes that it has met."""

    graph: GraphSpec
    backend: Backend
    plans: dict[tuple[int, int], WindowPlan] = field(default_factory=dict)


class Predictor:
    """A model bundle ready to segment images. It is not thread-safe: use it from one caller at a time.

    Args:
        bundle: an open bundle, or its path.
        backend: one of `hrda_core.inference.backends.BACKEND_NAMES`.
        plan: window plan; None = the bundle's default.
        long_side: images with a longer side are shrunk to it first and no other resizing is done, pixels; 0 = never;
            None = the bundle's resizing.
        threads: CPU threads for one inference; 0 = all cores but one.
        precision: one of `PRECISION_CHOICES`.
        on_gpu_failure: when a GPU, or a named OpenVINO, fails: `stop`, or `fall_back` to ONNX Runtime on the CPU.
        build_engine: build a TensorRT engine that is missing, which takes minutes.
        openvino: device and number format of OpenVINO; None = the processor, in single precision.
        sizes: number of image sizes that come in turn, as of several cameras; the graphs of so many stay open.
        network_size: leave masks at the size at which the network sees the image, see `Prediction`.
        say: takes lines for the user: builds, waits, and as warnings hand-overs to the CPU, and once that images are
            much larger or smaller than those of the training.

    Raises:
        BundleError, BackendError, MissingPackageError: see `Bundle.open` and `open_backend`.
        AnswerError: the model does not answer the made image as its bundle says, see `prove`.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        backend: str = "auto",
        plan: str | None = None,
        *,
        long_side: int | None = None,
        threads: int = 0,
        precision: str = "auto",
        on_gpu_failure: str = "stop",
        build_engine: bool = False,
        openvino: OpenVinoOptions | None = None,
        sizes: int = 1,
        network_size: bool = False,
        say: Say = silent,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.plan = plan or self.bundle.default_plan
        if long_side is not None and long_side < 0:
            raise BackendError(f"long_side must be 0 (keep the size) or more pixels, not {long_side}")
        self.scale = self.bundle.scale if long_side is None else self.bundle.scale.only(long_side)
        if precision not in PRECISION_CHOICES:
            raise BackendError(f"precision '{precision}' is not known; choose one of {', '.join(PRECISION_CHOICES)}")
        PlanChoice(self.plan)  # a plan that there is not gets another sentence than one that the bundle lacks
        if self.plan not in self.bundle.plans:
            raise BackendError(
                f"model bundle '{self.bundle.path}' has no graph for window plan '{self.plan}'; it has "
                f"{', '.join(self.bundle.plans)}; add one with 'hrda export {self.bundle.path} --size HEIGHTxWIDTH "
                f"--plan {self.plan}'"
            )
        self._backend_name, self._precision = backend, precision
        self._gpu: dict[str, Any] = {
            "on_gpu_failure": on_gpu_failure,
            "build_engine": build_engine,
            "openvino": openvino,
            "say": say,
            "progress": log_lines(say),
        }
        self._threads, self._network_size = threads, network_size
        self._say, self._warned = say, False
        self._opened: list[_Opened] = []  # newest last
        self._kept_open = max(_KEPT_OPEN, sizes)
        self._padded = np.empty((0, 0, 0, 3), np.uint8)
        # A mistake shall show now and not with the first image, whose size is not known yet.
        static = [graph for graph in self.bundle.static_graphs if self._may_run(graph)]
        any_size = [self.bundle.graphs[self.plan]] if self._may_use("fp32") and self.plan in self.bundle.graphs else []
        # An engine is for one image size.
        graph = next(iter([*static, *any_size] if backend == "tensorrt" else [*any_size, *static]), None)
        if graph is None:
            raise BackendError(
                f"model bundle '{self.bundle.path}' has no graph of window plan '{self.plan}' in {precision}; add one "
                f"with 'hrda export {self.bundle.path} --size HEIGHTxWIDTH --plan {self.plan} --precision {precision}'"
            )
        self._open([graph])

    @property
    def backend_description(self) -> str:
        """A line on what runs where, for logs and diagnostics."""
        return str(self.backend_info or "closed")

    @property
    def backend_info(self) -> BackendInfo | None:
        """What runs where, as fields; None once it is closed."""
        return self._opened[-1].backend.info if self._opened else None

    @property
    def graph(self) -> GraphSpec:
        """The graph that ran last, or the one that was opened first if none has run."""
        return self._opened[-1].graph

    @property
    def takes_batch(self) -> bool:
        """Whether `batch` takes several images, in the graph that ran last."""
        return self._opened[-1].backend.takes_batch if self._opened else False

    def __call__(self, rgb: UInt8Array) -> Prediction:
        """Segment one image.

        Args:
            rgb: uint8 (H, W, 3), RGB, any size from 1 x 1; rows may be strided. It is only read.

        Returns:
            arrays that this call owns: a later call does not change them.

        Raises:
            ImageError: another dtype or shape, or an empty image.
            BackendError: the back end failed, or no graph is for images of this size.
            AnswerError: what came is not finite, or are no masks.
        """
        (prediction,) = self.batch([rgb])
        return prediction

    def batch(self, images: Sequence[UInt8Array]) -> list[Prediction]:
        """Segment images of one size in one run of the back end.

        Args:
            images: at least one; each as for a single call. More than one only where it `takes_batch`.

        Returns:
            the masks of each, as of a single call.

        Raises:
            ImageError, BackendError, AnswerError: as for a single call, or the sizes differ; nothing is known of the
                others then.
        """
        for rgb in images:
            _check_image(rgb)
        height, width = images[0].shape[:2]
        if any(rgb.shape != images[0].shape for rgb in images):
            raise ImageError(f"images of a batch must have one size; found {[rgb.shape for rgb in images]}", "array")
        opened, plan = self._for_size(height, width)
        padded = self._pad(images, plan)
        labels, confidence = opened.backend(padded)
        recorded = opened.graph.answer
        constant = recorded is not None and recorded.is_constant
        for place in range(len(images)):
            one = slice(place, place + 1)
            try:
                check_answer(
                    labels[one], confidence[one], padded[one], len(self.bundle.label_space), may_be_constant=constant
                )
            except AnswerError as error:
                raise self._named(error, opened.graph) from None
        found = zip(labels[:, : plan.height, : plan.width], confidence[:, : plan.height, : plan.width], strict=True)
        if (plan.height, plan.width) == (height, width) or self._network_size:
            return [Prediction(*maps) for maps in found]
        return [Prediction(*(resize_map(map_, height, width) for map_ in maps)) for maps in found]

    def serves(self, height: int, width: int) -> bool:
        """Return whether there is a graph for images of this size, pixels."""
        return bool(self._candidates(self.scale.size(height, width), strict=False))

    def warm_up(self, height: int, width: int) -> None:
        """Run once on a grey image of this size, so that the first frame meets allocated memory.

        Nothing is done if the bundle's graphs are for other sizes; the first image then raises the error.
        """
        if self.serves(height, width):
            self(np.full((height, width, 3), 128, np.uint8))

    def close(self) -> None:
        """Free the memory of the back ends. The next image opens one again."""
        while self._opened:
            self._opened.pop().backend.close()

    def _for_size(self, height: int, width: int) -> tuple[_Opened, WindowPlan]:
        """The graph for images of this size, opened, and how it cuts them."""
        if self._opened and (height, width) in self._opened[-1].plans:  # every frame of a video but the first
            return self._opened[-1], self._opened[-1].plans[height, width]
        self._warn_of_scale(height, width)
        size = self.scale.size(height, width)
        candidates = self._candidates(size)
        known = next((opened for opened in self._opened if opened.graph in candidates), None)
        if known is None:
            self._open(candidates)
        else:
            self._opened.remove(known)
            self._opened.append(known)
        opened = self._opened[-1]
        if len(opened.plans) == _KEPT_PLANS:
            opened.plans.clear()
        plan = plan_for_graph(self.bundle, opened.graph, *size)
        check_room(self.bundle, opened.graph, plan, opened.backend)
        return opened, opened.plans.setdefault((height, width), plan)

    def _warn_of_scale(self, height: int, width: int) -> None:
        """Say once that images are much larger or smaller than those of the training."""
        warning = "" if self._warned else self.scale.warning(height, width)
        if warning:
            self._warned = True
            self._say(warning, Level.WARNING)

    def _candidates(self, size: tuple[int, int], *, strict: bool = True) -> list[GraphSpec]:
        """Graphs that run on an image of this size (after shrinking), best one first."""
        precisions = [p for p in ("fp16", "fp32", "int8") if self._may_use(p)]
        found = [graph_for_image(self.bundle, self.plan, size, precision) for precision in precisions]
        graphs = [graph for graph in found if graph is not None]
        if not graphs and strict:
            sizes = sorted(
                {f"{g.size[0]}x{g.size[1]}" for g in self.bundle.static_graphs if g.size and self._may_run(g)}
            )
            raise BackendError(
                f"no graph of window plan '{self.plan}' is for images of {size[0]}x{size[1]} pixels (height x width): "
                f"the bundle's are for {', '.join(sizes)} after padding; add one with 'hrda export {self.bundle.path} "
                f"--size {size[0]}x{size[1]} --plan {self.plan}'"
            )
        return graphs

    def _may_run(self, graph: GraphSpec) -> bool:
        return graph.plan == self.plan and self._may_use(graph.precision)

    def _may_use(self, precision: str) -> bool:
        if self._precision != "auto":
            return precision == self._precision
        return precision == "fp32" or (precision == "fp16" and self._backend_name in ("auto", "tensorrt"))

    def _open(self, candidates: list[GraphSpec]) -> None:
        """Open the first graph that a back end takes: half precision is for engines, where the user left the choice."""
        *engines, last = candidates
        reasons = []
        for graph in engines:
            try:
                backend = self._proven(graph, self._open_engine(graph, last))
            except (BackendError, MissingPackageError) as error:
                reasons.append(Reason(f"no TensorRT engine in {graph.precision}", str(error)))
                continue
            self._keep(graph, backend)
            return
        backend = open_backend(self._backend_name, self.bundle, last, threads=self._threads, **self._gpu)
        backend.info = backend.info.because(*reasons)
        self._keep(last, self._proven(last, backend))

    def _proven(self, graph: GraphSpec, backend: Backend) -> Backend:
        """A back end that has answered the made image like the bundle's model; another one is closed."""
        size = graph.made_size(self.bundle.multiple_of)
        on_cpu = backend.info.device == "cpu"  # drivers of GPUs reserve more than there is, and use none of it
        try:
            with within_free_memory() if on_cpu else nullcontext():
                prove(backend, size, len(self.bundle.label_space), graph.answer)
                if backend.takes_batch:
                    prove_batch(backend, size)
        except BaseException as error:
            backend.close()
            if isinstance(error, AnswerError):
                raise self._named(error, graph) from None
            raise
        return backend

    def _named(self, error: AnswerError, graph: GraphSpec) -> AnswerError:
        return AnswerError(
            f"graph '{graph.file}' of model bundle '{self.bundle.path}' does not answer like a model: {error}; use "
            f"another model, or export this one again",
            error.cause,
        )

    def _open_engine(self, graph: GraphSpec, cpu_graph: GraphSpec) -> Backend:
        """The engine of a graph, which may hand over to the single-precision graph on the CPU while it runs."""
        stop = {**self._gpu, "on_gpu_failure": "stop"}
        backend = open_backend("tensorrt", self.bundle, graph, threads=self._threads, **stop)
        if self._gpu["on_gpu_failure"] == "stop":
            return backend

        def open_cpu() -> Backend:
            return open_backend("onnx", self.bundle, cpu_graph, threads=self._threads)

        return FallBackBackend(backend, open_cpu, self._gpu["say"])

    def _keep(self, graph: GraphSpec, backend: Backend) -> None:
        if len(self._opened) == self._kept_open:
            self._opened.pop(0).backend.close()
        self._opened.append(_Opened(graph, backend))

    def _pad(self, images: Sequence[UInt8Array], plan: WindowPlan) -> UInt8Array:
        """Resize and pad into a buffer that is kept: (len(images), padded_height, padded_width, 3)."""
        shape = (len(images), plan.padded_height, plan.padded_width, 3)
        if self._padded.shape != shape:
            self._padded = np.empty(shape, np.uint8)
        height, width = plan.height, plan.width
        for padded, rgb in zip(self._padded, images, strict=True):
            padded[:height, :width] = resize_image(rgb, height, width, self.scale.interpolation)
            padded[:height, width:] = padded[:height, width - 1 : width]
            padded[height:] = padded[height - 1]
        return self._padded


def _check_image(rgb: UInt8Array) -> None:
    if not isinstance(rgb, np.ndarray) or rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        found = f"{rgb.dtype} {rgb.shape}" if isinstance(rgb, np.ndarray) else type(rgb).__name__
        raise ImageError(f"an image must be uint8 of shape (height, width, 3), RGB; found {found}", "array")
