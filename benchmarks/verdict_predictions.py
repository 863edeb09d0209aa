"""Predictions of the models of benchmarks/verdict.py, once for each model and frame, kept as small arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.onnx_writing import trace
from hrda_core.inference import Prediction
from hrda_core.window_plan import PlanChoice

UInt8Array = npt.NDArray[np.uint8]

_MEAN = (127.5, 127.5, 127.5)


class _Graph(nn.Module):
    """A deployed graph that also gives what bundles do not: energy, entropy and the Gram matrix of the classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.deployed = DeployGraph.for_any_size(network, PlanChoice("tiles", (1, 1)), _MEAN, _MEAN)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        logits = self.deployed._logits(self.deployed.normalise(image))
        labels, confidence = self.deployed.finish(logits)
        flat = logits.flatten(2)[0]
        probability = flat.softmax(0)
        energy = flat.logsumexp(0).mean()
        entropy = -(probability * (probability + 1e-9).log()).sum(0).mean()
        gram = probability @ probability.T / flat.shape[1]
        return labels, confidence, torch.stack([energy, entropy]), gram


class Runner:
    """Runs networks of one architecture: the graph is traced once, then only its weights change."""

    def __init__(self) -> None:
        self._traced: dict[str, onnx.ModelProto] = {}

    def open(self, network: nn.Module) -> Session:
        """Return a session of a network, on one thread."""
        graph = _Graph(folded(network)).eval()  # type: ignore[arg-type]
        state = graph.state_dict()
        key = str([(name, tuple(value.shape)) for name, value in state.items()])
        if key not in self._traced:
            self._traced[key] = _trace(graph)
        model = onnx.ModelProto()
        model.CopyFrom(self._traced[key])
        for tensor in model.graph.initializer:
            if tensor.name in state:
                values = state[tensor.name].reshape(tuple(tensor.dims)).numpy()
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return Session(model)


class Session:
    """A network that runs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def __call__(self, rgb: UInt8Array) -> Prediction:
        """Segment an image, uint8 (H, W, 3)."""
        return self.all(rgb)[0]

    def all(self, rgb: UInt8Array) -> tuple[Prediction, npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the prediction, (energy, entropy), and the Gram matrix of the class probabilities."""
        height, width = rgb.shape[:2]
        padded = np.pad(rgb, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
        labels, confidence, scalars, gram = self._session.run(None, {"image": padded[None]})
        return Prediction(labels[0, :height, :width], confidence[0, :height, :width]), scalars, gram


def _trace(graph: nn.Module) -> onnx.ModelProto:
    size = {1: "height", 2: "width"}
    names = ("labels", "confidence", "scalars", "gram")
    image = torch.zeros((1, 256, 320, 3), dtype=torch.uint8)
    any_size = {"image": size, "labels": size, "confidence": size}
    model = trace(graph, {"image": image}, names, opset=17, any_size=any_size)
    _name_weights(model, graph)
    return model


def _name_weights(model: onnx.ModelProto, graph: nn.Module) -> None:
    """Give weights that the tracer reshaped their names back; each is found by its values."""
    known = {tensor.name for tensor in model.graph.initializer}
    hidden = {name: value.detach().numpy() for name, value in graph.named_parameters() if name not in known}
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        for name, own in hidden.items():
            if values.size == own.size and np.array_equal(values.reshape(-1), own.reshape(-1)):
                for node in model.graph.node:
                    for place, used in enumerate(node.input):
                        if used == tensor.name:
                            node.input[place] = name
                tensor.name = name
                del hidden[name]
                break
    assert not hidden, f"the graph hides the weights {sorted(hidden)[:3]}"


@dataclass(frozen=True)
class Kept:
    """Predictions of one model on some images, as arrays over the images.

    Attributes:
        labels, confidence: uint8 (N, H, W) of the images.
        mirrored, smaller: class ids of the mirrored and of the smaller image, laid over the image.
        scalars: float32 (N, 2), energy and entropy.
        gram: float32 (N, C, C).
    """

    labels: UInt8Array
    confidence: UInt8Array
    mirrored: UInt8Array
    smaller: UInt8Array
    scalars: npt.NDArray[np.float32]
    gram: npt.NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> Kept:
        """Read what `write` wrote."""
        with np.load(path) as found:
            return cls(**{name: found[name] for name in cls.__dataclass_fields__})

    def write(self, path: Path) -> None:
        """Write all arrays as one file, whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part.npz")
        np.savez_compressed(part, **vars(self))
        part.replace(path)


def stacked(rows: Sequence[dict[str, npt.NDArray[np.generic]]]) -> Kept:
    """Put the arrays of images together."""
    return Kept(**{name: np.stack([row[name] for row in rows]) for name in Kept.__dataclass_fields__})  # type: ignore[arg-type]
