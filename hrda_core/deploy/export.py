"""Exports a trained network to a bundle: ONNX graphs with pre- and post-processing inside, checked against PyTorch.

Each graph takes uint8 (1, H, W, 3) RGB with H and W multiples of the bundle's `multiple_of`, and gives uint8 class ids
and uint8 confidence, both (1, H, W). Weights are stored in half precision and cast once when the graph is loaded. This
halves the file, and the parity check includes the difference. Needs torch and onnx.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from safetensors.torch import save
from torch import Tensor

from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.onnx_writing import trace, with_weights_in_half
from hrda_core.deploy.same_padding import pad_inside_convolutions
from hrda_core.deploy.samples import Samples
from hrda_core.errors import BackendError, BundleError
from hrda_core.inference.answers import record_answer
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, GraphSpec, write_manifest
from hrda_core.inference.model_card import CARD_NAME, model_card
from hrda_core.input_scale import InputScale
from hrda_core.labels import LabelSpace
from hrda_core.models.adapters import merge_lora
from hrda_core.models.class_bias import ClassBias, metadata_of
from hrda_core.models.finite_weights import check_finite
from hrda_core.models.hrda import HRDA
from hrda_core.models.presets import NetworkConfig, resolve_preset
from hrda_core.models.segmenter import Segmenter
from hrda_core.whole_files import replaced_folder
from hrda_core.window_plan import PLAN_NAMES, PlanChoice, Size

__all__ = [
    "ExportSpec",
    "ParityReport",
    "export_bundle",
    "graph_for_any_size",
    "graph_plans",
    "measure_parity",
    "tiles_for",
]

MIN_AGREEMENT = 0.999
"""Share of pixels on which a graph must agree with PyTorch, or the export is refused."""

_OPSET = 17
"""Newest operator set that TensorRT 8.6 and ONNX Runtime 1.16 both read."""

_ENCODER_STRIDE = 32

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ExportSpec:
    """The description of a bundle; see docs/robot/bundle.md.

    Attributes:
        name, preset, scale, label_space: as in `Bundle`.
        overrides: fields of the preset that were replaced, so that the network can be built again.
        provenance: recipe, data, licence, scores; plain values.
        grid: rows and columns of detail tiles; None = what suits the encoder, see `tiles_for`.
        bias: what of the network's logits is adjustment, see `hrda_core.models.class_bias`.
        default_plan: default window plan; empty = `tiles` for HRDA, `whole` for other networks.
    """

    name: str
    preset: str
    overrides: Mapping[str, Any]
    scale: InputScale
    provenance: Mapping[str, Any]
    label_space: LabelSpace
    grid: Size | None = None
    default_plan: str = ""
    bias: ClassBias = ()

    @property
    def network(self) -> NetworkConfig:
        """All values that define the network; its normalisation is the bundle's.

        Raises:
            RecipeError: a preset or override is unknown.
        """
        return resolve_preset(self.preset, **self.overrides)

    @staticmethod
    def like(
        given: Bundle, name: str, overrides: Mapping[str, Any], provenance: Mapping[str, Any], bias: ClassBias = ()
    ) -> ExportSpec:
        """Describe another network in the place of a given one: same classes, scale, tiles and default plan."""
        grid = given.tile_grid
        scale, space, plan = given.scale, given.label_space, given.default_plan
        return ExportSpec(name, given.preset, overrides, scale, provenance, space, grid, plan, bias)


@dataclass(frozen=True)
class ParityReport:
    """Agreement of a graph with PyTorch.

    Attributes:
        labels: share of pixels with the same class, 0..1.
        confidence: largest difference of the confidence, 0..255.
    """

    labels: float
    confidence: int


def export_bundle(
    model: HRDA | Segmenter,
    spec: ExportSpec,
    folder: Path,
    sample: UInt8Array,
    *,
    samples: Samples | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, ParityReport]:
    """Write a complete bundle; an existing one is replaced only when the new one is whole.

    Args:
        model: trained network; it is put into eval mode. LoRA is merged in the bundle, and the graphs are compared with
            the network as it was trained.
        folder: where the bundle goes; if it exists it must be a bundle or empty.
        sample: uint8 (H, W, 3) RGB image for the parity check, at least 128 x 128, preferably from the target domain.
        samples: images that go with the bundle, for `hrda export` of further graphs.
        say: takes one line of progress.

    Returns:
        agreement with PyTorch by plan.

    Raises:
        BackendError: a bundle of this network has no such default plan.
        RecipeError: a preset or override is unknown.
        BundleError: `folder` holds something else, the network has weights that are not finite, or a graph does not
            agree with PyTorch.
        AnswerError: the network answers an image with values that are not finite.
    """
    plans, normalisation = graph_plans(model), (spec.network.mean, spec.network.std)
    spec = replace(spec, default_plan=spec.default_plan or plans[-1])
    shipped, spec = _without_lora(model, spec)
    grid = spec.grid or tiles_for(model)
    multiple_of = _multiple_of(model, grid)
    if spec.default_plan not in plans:
        raise BackendError(f"window plan '{spec.default_plan}' has no ONNX graph for '{spec.name}': {', '.join(plans)}")
    check_finite(
        model.state_dict(), f"the network of '{spec.name}' has", "train it again; nothing was written", BundleError
    )
    model.eval()
    reports, graphs, light = {}, {}, folded(shipped)
    pad_inside_convolutions(light)  # `multiple_of` keeps every map even
    with replaced_folder(folder, MANIFEST_NAME, error=BundleError) as part:
        part.mkdir()
        for plan in plans:
            choice = PlanChoice(plan, grid if plan == "tiles" else None)
            file = "model.onnx" if plan == spec.default_plan else f"{plan}.onnx"
            say(f"exporting window plan '{plan}' to {file}")
            written, reference = (
                DeployGraph.for_any_size(network, choice, *normalisation).eval() for network in (light, model)
            )
            reports[plan] = _write_graph(written, reference, part / file, sample, multiple_of, say)
            size = GraphSpec(choice, file).made_size(multiple_of)
            answer = record_answer(OnnxBackend(part / file), size, len(spec.label_space))
            graphs[plan] = {"file": file, "grid": list(choice.grid or (1, 1)), "answer": answer.to_dict()}
            if reports[plan].labels < MIN_AGREEMENT:
                raise BundleError(
                    f"the exported graph '{file}' agrees with PyTorch on {reports[plan].labels:.4%} of the pixels "
                    f"only, expected {MIN_AGREEMENT:.1%}; nothing was written"
                )
        halves = {name: _half(value) for name, value in shipped.state_dict().items()}
        (part / "model.safetensors").write_bytes(save(halves, metadata_of(spec.bias)))
        manifest = _manifest(model, spec, multiple_of, graphs, reports)
        (part / CARD_NAME).write_text(model_card(manifest), encoding="utf-8")
        write_manifest(part, manifest)
        if samples is not None:
            samples.write(part)
    return reports


def _without_lora(model: HRDA | Segmenter, spec: ExportSpec) -> tuple[HRDA | Segmenter, ExportSpec]:
    """The network with LoRA merged into its weights, and the description that builds it; others stay as they are."""
    if spec.network.tuning != "lora":
        return model, spec
    merged = copy.deepcopy(model)
    merge_lora(merged)
    return merged, replace(spec, overrides={**spec.overrides, "tuning": "full"})


def _write_graph(
    graph: DeployGraph,
    reference: DeployGraph,
    file: Path,
    sample: UInt8Array,
    multiple_of: int,
    say: Callable[[str], None],
) -> ParityReport:
    """Write a graph with weights in half precision, or in single where that moves too many pixels."""
    whole = graph_for_any_size(graph, multiple_of)
    file.write_bytes(with_weights_in_half(whole))
    report = measure_parity(reference, file, sample, multiple_of)
    if report.labels < MIN_AGREEMENT:
        # Dark images have many pixels on which two classes are almost equally probable.
        say(f"{file.name}: half-precision weights agree on {report.labels:.3%} of the pixels only; kept in single")
        file.write_bytes(whole.SerializeToString())
        report = measure_parity(reference, file, sample, multiple_of)
    return report


def tiles_for(model: HRDA | Segmenter) -> Size:
    """Return rows and columns of the detail tiles that suit a network's encoder.

    The cost of attention grows with the square of a tile's pixels, so encoders with attention see 2 x 2 tiles, of the
    size that they were trained on. Convolutions cost the same either way and see most where nothing is cut, so they get
    one tile (docs/robot/real_time.md).
    """
    # By the layers' class names, which all encoders of timm and our own share: attribute names differ. A few CNNs that
    # weigh channels (ResNeSt, SKNet) carry the word too and keep 2 x 2.
    names = {type(module).__name__ for module in model.backbone.modules()}
    return (2, 2) if any("Attention" in name or "Attn" in name for name in names) else (1, 1)


def graph_plans(model: HRDA | Segmenter) -> tuple[str, ...]:
    """Return the window plans that become graphs: `tiles` and `context` of HRDA, `whole` of a single-scale network."""
    return ("whole",) if isinstance(model, Segmenter) else PLAN_NAMES


def measure_parity(graph: DeployGraph, onnx_file: Path, sample: UInt8Array, multiple_of: int) -> ParityReport:
    """Compare a graph in ONNX Runtime with PyTorch at three image sizes, none of them the size of tracing."""
    backend = OnnxBackend(onnx_file)
    same, total, worst = 0, 0, 0
    for rows, columns in ((2, 2), (3, 5), (6, 8)):
        image = _tile_to(sample, rows * multiple_of, columns * multiple_of)
        with torch.inference_mode():
            labels, confidence = (out.numpy() for out in graph(torch.from_numpy(image)))
        found_labels, found_confidence = backend(image)
        same += int((labels == found_labels).sum())
        total += labels.size
        worst = max(worst, int(np.abs(confidence.astype(int) - found_confidence.astype(int)).max()))
    return ParityReport(same / total, worst)


def graph_for_any_size(graph: DeployGraph, multiple_of: int) -> onnx.ModelProto:
    """Write a graph for any number of images whose sides are multiples of `multiple_of` pixels, in single precision."""
    size = {0: "images", 1: "height", 2: "width"}
    image = torch.zeros((1, 4 * multiple_of, 7 * multiple_of, 3), dtype=torch.uint8)
    names = ("labels", "confidence")
    return trace(graph, {"image": image}, names, opset=_OPSET, any_size=dict.fromkeys(("image", *names), size))


def _manifest(
    model: HRDA | Segmenter,
    spec: ExportSpec,
    multiple_of: int,
    graphs: Mapping[str, Any],
    reports: Mapping[str, ParityReport],
) -> dict[str, Any]:
    return {
        "name": spec.name,
        "preset": spec.preset,
        "overrides": dict(spec.overrides),
        "label_space": spec.label_space.to_dict(),
        "normalisation": {"mean": list(spec.network.mean), "std": list(spec.network.std)},
        "input": {"multiple_of": multiple_of, **spec.scale.to_dict()},
        "context_scale": 1.0 if isinstance(model, Segmenter) else model.context_scale,
        "default_plan": spec.default_plan,
        "graphs": dict(graphs),
        "parity_with_pytorch": {
            plan: {"labels": round(report.labels, 6), "confidence": report.confidence}
            for plan, report in reports.items()
        },
        "provenance": dict(spec.provenance),
    }


def _multiple_of(model: HRDA | Segmenter, grid: tuple[int, int]) -> int:
    """Image sides that put the image, its context and its tiles on the stride-32 grid of the encoders."""
    if isinstance(model, Segmenter):
        return _ENCODER_STRIDE
    context = Fraction(model.context_scale).limit_denominator(64).denominator * _ENCODER_STRIDE
    return math.lcm(context, math.lcm(*grid) * math.lcm(_ENCODER_STRIDE, model.multiple_of))


def _tile_to(image: UInt8Array, height: int, width: int) -> UInt8Array:
    rows, columns = -(-height // image.shape[0]), -(-width // image.shape[1])
    return np.ascontiguousarray(np.tile(image, (rows, columns, 1))[None, :height, :width])


def _half(value: Tensor) -> Tensor:
    half = value.half() if value.is_floating_point() else value
    return (half if half.isfinite().all() else value).contiguous()  # beyond 65504 it stays in single precision
