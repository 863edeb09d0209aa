"""Adds a graph for one image size to a bundle: any plan, precision written into the graph, agreement measured.

Sizes, tiles and how many of them run are fixed when the graph is written. Such a graph is faster on a CPU, becomes a
TensorRT engine, and carries plans that a graph for any size cannot. Needs torch, onnx and onnxruntime.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from hrda_core.deploy.deploy_graph import DeployGraph, static_graph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.half_precision import in_half_precision
from hrda_core.deploy.network import WEIGHTS_FILE, load_network
from hrda_core.deploy.onnx_writing import trace, with_constants_folded
from hrda_core.errors import BackendError, BundleError
from hrda_core.inference.answers import Answer, record_answer
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.bundle import PRECISIONS, Bundle, GraphSpec, change_bundle
from hrda_core.inference.image_plan import plan_for_graph
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.resizing import Interpolation, resize_image
from hrda_core.scratch import scratch_folder
from hrda_core.window_plan import GRAPH_PLANS, PlanChoice, Size, WindowPlan
from hrda_core.windows.torch_windows import plan_for

__all__ = ["DEFAULT_OPSET", "MIN_AGREEMENT", "StaticReport", "StaticRequest", "export_static"]

DEFAULT_OPSET = 20
"""Newest operator set that TensorRT 10.3 (JetPack 6) reads."""

MIN_AGREEMENT: Mapping[str, float] = {"fp32": 0.999, "fp16": 0.999, "int8": 0.99}
"""Share of pixels on which a graph must give PyTorch's class, or the export is refused."""

UInt8Array = npt.NDArray[np.uint8]
Quantise = Callable[[onnx.ModelProto, Sequence[UInt8Array]], onnx.ModelProto]
"""From a graph in fp32 and padded images uint8 (1, H, W, 3) to the graph in int8."""


@dataclass(frozen=True)
class StaticRequest:
    """The graph to write.

    Attributes:
        choice: window plan, one of `GRAPH_PLANS`; without a grid its tiles are those of the bundle's graph `tiles`, or
            2 x 2 where that graph has one tile and `topk` has to choose or neighbours are to overlap.
        size: height and width of the camera image, pixels.
        precision: one of `PRECISIONS`.
        opset: ONNX operator set.
        long_side: shrink larger images first, pixels; None = resize as the bundle says. The caller of the graph must
            resize its images in the same way.
    """

    choice: PlanChoice
    size: Size
    precision: str = "fp32"
    opset: int = DEFAULT_OPSET
    long_side: int | None = None


@dataclass(frozen=True)
class StaticReport:
    """The new graph and its agreement with the network in PyTorch (single precision, nothing folded).

    Attributes:
        graph: the new graph.
        images: number of images that were compared.
        agreement: share of pixels with the same class, 0..1.
        worst_agreement: the same for the image where it is lowest.
        confidence: largest difference of the confidence where the class is the same, 0..255.
        nodes: number of operations in the graph.
        bytes: size of the file.
    """

    graph: GraphSpec
    images: int
    agreement: float
    worst_agreement: float
    confidence: int
    nodes: int
    bytes: int


def export_static(
    bundle: Bundle,
    request: StaticRequest,
    images: Sequence[UInt8Array],
    *,
    quantise: Quantise | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StaticReport:
    """Write the graph into the bundle's folder and list it in the manifest.

    A graph of the same plan, size and precision is replaced. At every moment the bundle on disk is whole.

    Args:
        images: uint8 (H, W, 3) RGB of any size, preferably from the target domain; the agreement is measured on them.
        quantise: makes the int8 graph.
        say: takes one line of progress.

    Raises:
        BackendError: the plan does not become a graph of this network, or the precision is not known.
        RecipeError: tiles do not fit into the image.
        BundleError: the bundle has no weights or cannot be written, or the graph agrees with PyTorch on too few pixels;
            then nothing was written.
        AnswerError: the graph answers with values that are not finite; nothing was written.
    """
    _check(bundle, request, images)
    model = load_network(bundle)
    assert isinstance(model, HRDA | Segmenter)
    graph, plan = _cut(bundle, request, model)
    assert graph.size is not None
    say(f"tracing plan '{plan.name}' for {graph.size[0]}x{graph.size[1]} pixels")
    mean, std = bundle.mean, bundle.std
    reference = static_graph(model, plan, mean, std).eval()
    blank = {"image": torch.zeros(1, *graph.size, 3, dtype=torch.uint8)}
    written = static_graph(folded(model), plan, mean, std)
    traced = with_constants_folded(trace(written, blank, ("labels", "confidence"), opset=request.opset))
    padded = [_fit(image, plan, bundle.scale.interpolation) for image in images]
    candidates = _in_precision(traced, request, padded, quantise)
    for number, (candidate, note) in enumerate(candidates):
        onnx.checker.check_model(candidate, full_check=True)
        data = candidate.SerializeToString()
        say(f"comparing with PyTorch on {len(padded)} image{'' if len(padded) == 1 else 's'}{note}")
        results, answer = _compare(reference, data, padded, len(bundle.label_space))
        agreement = float(np.mean([same for same, _ in results]))
        if agreement >= MIN_AGREEMENT[graph.precision]:
            return _kept(bundle, replace(graph, answer=answer), candidate, data, results)
        again = "; trying once more" if number + 1 < len(candidates) else ""
        say(f"only {agreement:.3%} of the pixels are equal{again}")
    raise BundleError(
        f"the graph of plan '{graph.plan}' in {graph.precision} agrees with PyTorch on {agreement:.3%} of the pixels "
        f"only, expected {MIN_AGREEMENT[graph.precision]:.1%}; nothing was written"
    )


def _in_precision(
    model: onnx.ModelProto, request: StaticRequest, padded: Sequence[UInt8Array], quantise: Quantise | None
) -> list[tuple[onnx.ModelProto, str]]:
    """Graphs in the precision asked for, fastest first, and what is special about each."""
    if request.precision == "fp32":
        return [(model, "")]
    if request.precision == "fp16":
        careful = in_half_precision(model, first_layers=False)
        return [(in_half_precision(model), ""), (careful, ", with the encoder's first layers in fp32")]
    if quantise is None:
        raise BackendError("int8 needs images of the target domain to calibrate on")
    return [(quantise(model, padded), "")]


def _check(bundle: Bundle, request: StaticRequest, images: Sequence[UInt8Array]) -> None:
    if request.choice.name not in GRAPH_PLANS:
        raise BackendError(
            f"window plan '{request.choice.name}' does not become a graph; choose one of {', '.join(GRAPH_PLANS)}"
        )
    if request.precision not in PRECISIONS:
        raise BackendError(f"precision '{request.precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    if not images:
        raise BackendError("an export needs at least one image to compare the graph with PyTorch")
    if not os.access(bundle.path, os.W_OK):
        raise BundleError(f"model bundle '{bundle.path}' cannot be written; export into a copy of it (--out FOLDER)")


def _cut(bundle: Bundle, request: StaticRequest, model: HRDA | Segmenter) -> tuple[GraphSpec, WindowPlan]:
    """The graph's entry in the manifest (but for its file) and its window plan."""
    choice, tiles = request.choice, bundle.graphs.get("tiles")
    if choice.name in ("tiles", "topk") and choice.grid is None:
        grid = tiles.choice.grid if tiles else None
        several = choice.name == "topk" or choice.overlap > 0
        choice = replace(choice, grid=(2, 2) if grid is None or (several and grid == (1, 1)) else grid)
    # Of one size; which one, the rule of `plan_for_graph` says.
    graph = GraphSpec(choice, "", (1, 1), request.precision)
    scale = bundle.scale if request.long_side is None else bundle.scale.only(request.long_side)
    size = scale.size(*request.size)
    plan = plan_for(model, choice, *size) if choice.name == "overlap" else plan_for_graph(bundle, graph, *size)
    choice = replace(choice, keep=plan.keep or None)
    return replace(graph, choice=choice, size=(plan.padded_height, plan.padded_width)), plan


def _fit(image: UInt8Array, plan: WindowPlan, interpolation: Interpolation) -> UInt8Array:
    """An image as `Predictor` would hand it to the graph, whatever its size is: uint8 (1, H, W, 3)."""
    fitted = resize_image(image, plan.height, plan.width, interpolation)
    bottom, right = plan.padded_height - plan.height, plan.padded_width - plan.width
    return np.ascontiguousarray(np.pad(fitted, ((0, bottom), (0, right), (0, 0)), mode="edge")[None])


def _compare(
    reference: DeployGraph, data: bytes, padded: Sequence[UInt8Array], classes: int
) -> tuple[list[tuple[float, int]], Answer]:
    """Share of equal labels and largest difference in confidence, for each image; and the answer to the made one."""
    results = []
    with scratch_folder("export") as folder:
        file = folder / "graph.onnx"
        file.write_bytes(data)
        backend = OnnxBackend(file)
        for image in padded:
            with torch.inference_mode():
                labels, confidence = (out.numpy() for out in reference(torch.from_numpy(image)))
            found_labels, found_confidence = backend(image)
            same = labels == found_labels
            apart = np.abs(confidence.astype(int) - found_confidence.astype(int))[same]
            results.append((float(same.mean()), int(apart.max(initial=0))))
        height, width = padded[0].shape[1:3]
        return results, record_answer(backend, (height, width), classes)


def _kept(
    bundle: Bundle, graph: GraphSpec, written: onnx.ModelProto, data: bytes, results: Sequence[tuple[float, int]]
) -> StaticReport:
    """Write the graph into the bundle and say what it is."""
    assert graph.size is not None
    digest = hashlib.sha256(data).hexdigest()
    height, width = graph.size
    # The name holds the content: the manifest on disk always lists a file that is there, old one or new one.
    graph = replace(graph, file=f"graphs/{graph.plan}_{height}x{width}_{graph.precision}_{digest[:8]}.onnx")
    report = StaticReport(
        graph,
        len(results),
        float(np.mean([same for same, _ in results])),
        min(same for same, _ in results),
        max(apart for _, apart in results),
        len(written.graph.node),
        len(data),
    )
    _add(bundle, report, data)
    return report


def _add(bundle: Bundle, report: StaticReport, data: bytes) -> None:
    """Write the graph into the bundle, in place of the one of the same kind."""

    def with_graph(now: Bundle) -> tuple[Mapping[str, Any], Mapping[str, bytes | None]]:
        if _network(now) != _network(bundle):
            raise BundleError(
                f"bundle '{bundle.path}' was replaced while its graph was made: nothing was written, since the graph "
                f"is of the model before; export it again"
            )
        for left in (now.path / "graphs").glob("*"):
            if str(left.relative_to(now.path)) not in now.manifest["files"]:
                left.unlink()  # of an export that was interrupted
        kept = {graph.file for graph in _others(now, report.graph)}
        gone = {graph.file for graph in now.static_graphs} - kept - {report.graph.file}
        manifest = {**now.manifest, "static_graphs": _entries(now, report)}
        return manifest, {report.graph.file: data, **dict.fromkeys(sorted(gone))}

    change_bundle(bundle.path, with_graph)


def _network(bundle: Bundle) -> tuple[Any, ...]:
    """What of a bundle decides on its graphs."""
    inputs = bundle.mean, bundle.std, bundle.multiple_of, bundle.scale, bundle.context_scale
    overrides = bundle.manifest.get("overrides", {})
    return bundle.manifest["files"].get(WEIGHTS_FILE), bundle.preset, overrides, bundle.label_space, *inputs


def _entries(bundle: Bundle, report: StaticReport) -> list[dict[str, Any]]:
    """The manifest's list of static graphs with the new one."""
    by_file = {str(entry["file"]): entry for entry in bundle.manifest.get("static_graphs", ())}
    parity = {"labels": round(report.agreement, 6), "confidence": report.confidence, "images": report.images}
    new = {"plan": report.graph.plan, **report.graph.to_dict(), "parity_with_pytorch": parity}
    return [*(by_file[graph.file] for graph in _others(bundle, report.graph)), new]


def _others(bundle: Bundle, graph: GraphSpec) -> list[GraphSpec]:
    """Static graphs that stay when `graph` is added."""
    return [other for other in bundle.static_graphs if _identity(other) != _identity(graph)]


def _identity(graph: GraphSpec) -> tuple[Any, ...]:
    return graph.plan, graph.size, graph.precision
