"""OpenVINO: the back end for processors, and for the GPUs and NPUs of Intel: see docs/robot/openvino.md."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, MissingPackageError
from hrda_core.inference.backends.onnx_backend import OnnxBackend, default_threads
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.openvino.compiler import CompiledModel, Compiler
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.openvino.reading import require_openvino
from hrda_core.inference.say import Say, silent
from hrda_core.inference.thread_choice import best_threads

__all__ = ["OpenVinoBackend"]

_OWN_MODELS = 4
"""Sizes of images that get a compiled model of their own: the made image's, a guess of the node, two cameras. Each
takes 100 to 150 MB, for `hrda_lite` at 640 x 480."""

Size = tuple[int, int]
UInt8Array = npt.NDArray[np.uint8]


class OpenVinoBackend:
    """One ONNX graph, compiled for each size of the images that come.

    A size that comes for the first time takes a second, for `hrda_lite`, or a tenth where it was compiled before. From
    the fifth size on they share a compiled model for any size, which is slower.

    Args:
        graph: a graph of the bundle.
        threads: CPU threads; 0 = what `hrda bench --backend openvino --sweep_threads` found best here, else all cores
            but one.
        options: device, and number format of the computation.
        say: takes lines for the user.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        BackendError: it lacks the device, cannot read or compile the graph, or gives other labels than ONNX Runtime.
        BundleError: the graph has other inputs or outputs, or keeps weights outside its own folder.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphSpec,
        *,
        threads: int = 0,
        options: OpenVinoOptions | None = None,
        say: Say = silent,
    ) -> None:
        options = options or OpenVinoOptions()
        require_openvino()
        path = bundle.file(graph.file)
        threads = (threads or best_threads(path, "openvino") or default_threads()) if options.device == "CPU" else 0
        self._graph, self._made_size, self._say = graph, graph.made_size(bundle.multiple_of), say
        self._compiler = Compiler(path, graph.precision, threads, options, partial(_onnxruntime, path), say)
        self._models: dict[Size | None, CompiledModel] = {}
        self._last_size = self._made_size
        equal = self._model(self._made_size).equal
        self.info = BackendInfo(
            "openvino",
            self._compiler.version,
            options.device.lower(),
            "" if options.device == "CPU" else self._compiler.device_name,
            threads,
            "" if options.precision == "f32" else options.precision,
            () if options.precision == "f32" else (_agreement(equal),),
        )

    @property
    def takes_batch(self) -> bool:
        """Models are compiled for one image."""
        return False

    def __call__(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """See `Backend.__call__`.

        Raises:
            BackendError: another size than the graph's, the device failed, or see the class for a new size.
        """
        self._last_size = (image.shape[1], image.shape[2])
        return self._model(self._last_size)(image)

    def layer_seconds(self, runs: int) -> dict[str, float]:
        """Return the seconds of each layer by name, for the size of the last image, for `hrda bench`."""
        return self._compiler.profile(self._last_size, runs)

    def close(self) -> None:
        """Free the memory of the compiled models. The next image would compile again."""
        self._models.clear()

    def _model(self, size: Size) -> CompiledModel:
        if (known := self._models.get(size)) is not None:
            return known
        if self._graph.size not in (None, size):
            raise BackendError(
                f"graph '{self._graph.file}' is for images of {_text(self._made_size)} pixels (height x width), found "
                f"{_text(size)}; export one for this size with 'hrda export --size'"
            )
        if len(self._models) < _OWN_MODELS:
            return self._models.setdefault(size, self._compiler.compile(size))
        if None not in self._models:
            self._say("images of many sizes come: OpenVINO takes a compiled model for any size, which is slower")
            self._models[None] = self._compiler.compile(self._made_size, any_size=True)
        return self._models[None]


def _onnxruntime(path: Path, image: UInt8Array) -> tuple[UInt8Array, UInt8Array] | None:
    """ONNX Runtime's masks of an image; None where it is not installed."""
    try:
        reference = OnnxBackend(path)
    except MissingPackageError:
        return None
    try:
        return reference(image)
    finally:
        reference.close()


def _agreement(equal: float | None) -> str:
    """How far a computation that rounds gives the classes of ONNX Runtime."""
    if equal is None:
        return "agreement not measured, since ONNX Runtime is not installed"
    return f"{equal:.2%} of the clear pixels as in ONNX Runtime"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
