"""Measures what int8 costs in labels and mIoU and what it gains in speed, for `hrda_lite` on CamVid frames.

    python benchmarks/int8/int8.py                                    # accuracy, layers, speed in ONNX Runtime
    python benchmarks/int8/int8.py --openvino OTHER_VENV/bin/python   # and OpenVINO, from an environment that has it

Calibration uses 32 frames spread over the train split (26 by day, 6 at dusk); other frames are measured: every fourth
of the day split `val`, and every second of dusk. Labels of a float graph and of one in int8 are compared; mIoU is of
the groups `camvid11`. Accuracy is measured at the frames' own size, speed at 512 x 640 (a camera of 640 x 480).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from hrda_core.bench.graph_ops import graph_ops
from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.data.datasets.labelled import pair_folders
from hrda_core.data.image_files import read_image
from hrda_core.deploy.deploy_graph import static_graph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.half_precision import in_half_precision
from hrda_core.deploy.int8.agreement import Agreement, Masks, compare, run_in_onnxruntime
from hrda_core.deploy.int8.layers import quantisable_layers
from hrda_core.deploy.int8.search import Quantised, layer_losses, quantise_to_agree
from hrda_core.deploy.int8.writing import INT8_BACKENDS, activation_ranges, with_int8
from hrda_core.deploy.network import load_network
from hrda_core.deploy.onnx_writing import trace, with_constants_folded
from hrda_core.inference import Bundle
from hrda_core.labels import EVALUATION_GROUPS
from hrda_core.machine import machine
from hrda_core.metrics import score
from hrda_core.standard_streams import with_streams
from hrda_core.window_plan import PlanChoice, SizeRules, plan_windows

Size = tuple[int, int]
UInt8Array = npt.NDArray[np.uint8]

PLANS = ("tiles", "context")
FRAME, SPEED_SIZE = (384, 512), (512, 640)  # padded
CALIBRATION = 32
LOSS_FRAMES = 4
FORMS = ("fp32", "tensorrt", "onnx")


@dataclass(frozen=True)
class Domain:
    """Labelled frames that a graph is measured on, padded, with their true size."""

    names: list[str]
    images: list[UInt8Array]
    height: int
    width: int


def main() -> int:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "hrda_lite")
    parser.add_argument("--camvid", type=Path, default=ROOT.parent / "shared" / "data" / "camvid")
    parser.add_argument("--frames", type=int, default=30, help="for each timing")
    parser.add_argument("--openvino", type=Path, default=None, help="Python interpreter that has openvino and numpy")
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(1)
    bundle = Bundle.open(options.bundle)
    calibration, domains = _frames(options.camvid)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="hrda_int8_") as folder:
        for plan in PLANS:
            model = _static(bundle, plan, FRAME)
            chosen = {form: _until_equal(model, calibration, form) for form in INT8_BACKENDS}
            figures[plan] = {
                "chosen": {form: _described(result, Path(folder)) for form, result in chosen.items()},
                "accuracy": _accuracy(model, chosen, calibration, domains, options.camvid),
                "losses": _losses(model, calibration),
                "speed": _speed(_static(bundle, plan, SPEED_SIZE), chosen, calibration, options.frames),
            }
            if options.openvino:
                graphs = {"fp32": model, **_for_openvino(model, chosen, calibration)}
                figures[plan]["openvino"] = _openvino(options.openvino, graphs, domains, Path(folder))
    settings = {
        "bundle": bundle.name,
        "calibration": CALIBRATION,
        "frames": {name: len(domain.images) for name, domain in domains.items()},
        "accuracy_size": FRAME,
        "speed_size": SPEED_SIZE,
        "timed_frames": options.frames,
    }
    print(f"written: {write_record('int8', figures=figures, settings=settings, before=before).relative_to(ROOT)}")
    return 0


# Frames and graphs.


def _frames(camvid: Path) -> tuple[list[UInt8Array], dict[str, Domain]]:
    """Images to calibrate on, as `calibration_images` takes them from the train folder, and those to measure on."""
    train = sorted(path.relative_to(camvid / "images").as_posix() for path in (camvid / "images/train").iterdir())
    used = [train[int((number + 0.25) * len(train) / CALIBRATION)] for number in range(CALIBRATION)]
    day, dusk = (_listed(camvid / "splits" / f"{split}.txt") for split in ("day_val", "dusk_train"))
    stems = {name.rsplit(".", 1)[0] for name in used}
    chosen = {"day": day[::4], "dusk": [name for name in dusk[::2] if name not in stems]}
    domains = {}
    for name, names in chosen.items():
        found = [next((camvid / "images").glob(f"{entry}.*")) for entry in names]
        frames = [read_image(path) for path in found]
        height, width = frames[0].shape[:2]
        relative = [path.relative_to(camvid / "images").as_posix() for path in found]
        domains[name] = Domain(relative, [_padded(frame, FRAME) for frame in frames], height, width)
    return [_padded(read_image(camvid / "images" / name), FRAME) for name in used], domains


def _listed(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _padded(rgb: UInt8Array, size: Size) -> UInt8Array:
    return np.pad(rgb, ((0, size[0] - rgb.shape[0]), (0, size[1] - rgb.shape[1]), (0, 0)), mode="edge")[None]


def _static(bundle: Bundle, plan: str, size: Size) -> onnx.ModelProto:
    """The graph that `hrda export --size` writes in fp32."""
    network: Any = load_network(bundle).eval()
    choice = PlanChoice(plan, (2, 2) if plan == "tiles" else None)
    windows = plan_windows(choice, *size, SizeRules(multiple_of=64))
    module = static_graph(folded(network), windows, bundle.mean, bundle.std)
    image = torch.zeros((1, *size, 3), dtype=torch.uint8)
    return with_constants_folded(trace(module, {"image": image}, ("labels", "confidence"), opset=20))


def _until_equal(model: onnx.ModelProto, images: Sequence[UInt8Array], form: str) -> Quantised:
    begin = time.perf_counter()
    result = quantise_to_agree(model, images, backend=form, say=lambda line: print(f"  {line}", flush=True))
    print(f"  for {form}: {time.perf_counter() - begin:.0f} s")
    return result


def _described(result: Quantised, folder: Path) -> dict[str, Any]:
    """Which layers stay, and the share of all FLOPs that runs in integers."""
    path = folder / "described.onnx"
    onnx.save(result.model, path)
    ops = graph_ops(path)
    share = sum(op.flops for op in ops if op.precision == "int8") / sum(op.flops for op in ops)
    return {
        "layers": result.layers,
        "kept": list(result.kept),
        "agreement": round(result.agreement.labels, 6),
        "flops_in_int8": round(share, 4),
        "bytes": path.stat().st_size,
    }


# Accuracy.


def _accuracy(
    model: onnx.ModelProto,
    chosen: Mapping[str, Quantised],
    calibration: Sequence[UInt8Array],
    domains: Mapping[str, Domain],
    camvid: Path,
) -> dict[str, Any]:
    wanted = {name: _masks(model, domain) for name, domain in domains.items()}
    rows: dict[str, Any] = {"fp32": _measured(wanted, wanted, domains, camvid)}
    for name, graph in _variants(model, chosen, calibration):
        found = {domain: _masks(graph, frames) for domain, frames in domains.items()}
        rows[name] = _measured(found, wanted, domains, camvid)
        print(f"  {name:<34}{rows[name]}", flush=True)
    return rows


def _variants(
    model: onnx.ModelProto, chosen: Mapping[str, Quantised], calibration: Sequence[UInt8Array]
) -> Iterator[tuple[str, onnx.ModelProto]]:
    layers, ranges = quantisable_layers(model), activation_ranges(model, calibration)
    wide = [layer for layer in layers if layer.kind != "depthwise"]
    for form in INT8_BACKENDS:
        yield f"{form}, all layers", with_int8(model, layers, ranges, form)
        yield f"{form}, all but depthwise", with_int8(model, wide, ranges, form)
        yield f"{form}, layers kept", chosen[form].model
    yield "fp16", in_half_precision(model)


def _masks(model: onnx.ModelProto, domain: Domain) -> list[Masks]:
    run = run_in_onnxruntime(model)
    crop = np.s_[:, : domain.height, : domain.width]
    return [(labels[crop], confidence[crop]) for labels, confidence in map(run, domain.images)]


def _measured(
    found: Mapping[str, Sequence[Masks]],
    wanted: Mapping[str, Sequence[Masks]],
    domains: Mapping[str, Domain],
    camvid: Path,
) -> dict[str, Any]:
    row = {}
    for name, domain in domains.items():
        agreement = compare(zip(found[name], wanted[name], strict=True))
        row[name] = {**_rounded(agreement), "mean_iou": round(_mean_iou(found[name], domain, camvid), 4)}
    return row


def _rounded(agreement: Agreement) -> dict[str, float]:
    return {"labels": round(agreement.labels, 4), "worst": round(agreement.worst, 4)}


def _mean_iou(found: Sequence[Masks], domain: Domain, camvid: Path) -> float:
    pairs = pair_folders(camvid / "images", camvid / "labels", names=domain.names)
    labels = iter([masks[0][0] for masks in found])
    return score(lambda rgb: next(labels), pairs, EVALUATION_GROUPS["camvid11"], boundary=False).mean_iou


def _losses(model: onnx.ModelProto, calibration: Sequence[UInt8Array]) -> list[dict[str, Any]]:
    """Each layer quantised alone, in the form for TensorRT: share of labels that change."""
    layers = quantisable_layers(model)
    some = calibration[:: CALIBRATION // LOSS_FRAMES]
    found = layer_losses(model, layers, activation_ranges(model, calibration), some)
    for loss in found[:8]:
        print(f"  {loss.layer.name:<64}{loss.layer.kind:<12}{100 * loss.changed:6.2f} % of the labels change")
    return [
        {
            "layer": loss.layer.name,
            "kind": loss.layer.kind,
            "weights": list(loss.layer.shape),
            "changed": round(loss.changed, 5),
        }
        for loss in found
    ]


# Speed.


def _speed(
    model: onnx.ModelProto, chosen: Mapping[str, Quantised], calibration: Sequence[UInt8Array], frames: int
) -> dict[str, Any]:
    """fp32 and both forms, interleaved: wall time, and processor time, which does not depend on other load."""
    images = [_padded(image[0], SPEED_SIZE) for image in calibration[:8]]
    graphs = {"fp32": model}
    ranges = activation_ranges(model, images)
    for form in INT8_BACKENDS:
        layers = [layer for layer in quantisable_layers(model) if layer.name not in chosen[form].kept]
        graphs[form] = with_int8(model, layers, ranges, form)
    figures = {}
    for threads in (1, 2):
        runs = {form: run_in_onnxruntime(graph, threads=threads) for form, graph in graphs.items()}
        wall: dict[str, list[float]] = {form: [] for form in runs}
        processor: dict[str, list[float]] = {form: [] for form in runs}
        for number in range(frames + 2):
            for form, run in runs.items():
                begin = time.perf_counter(), time.process_time()
                run(images[number % len(images)])
                if number >= 2:  # the first two allocate and tune
                    wall[form].append(time.perf_counter() - begin[0])
                    processor[form].append(time.process_time() - begin[1])
        figures[f"{threads} threads"] = {form: _times(wall[form], processor[form]) for form in runs}
        print(f"  {threads} threads: {figures[f'{threads} threads']}", flush=True)
    return figures


def _times(wall: Sequence[float], processor: Sequence[float]) -> dict[str, float]:
    return {**milliseconds(wall), "processor_p50_ms": round(1e3 * statistics.median(processor), 2)}


# OpenVINO.


def _for_openvino(
    model: onnx.ModelProto, chosen: Mapping[str, Quantised], calibration: Sequence[UInt8Array]
) -> dict[str, onnx.ModelProto]:
    graphs = {f"{form}, layers kept": result.model for form, result in chosen.items()}
    every = with_int8(model, quantisable_layers(model), activation_ranges(model, calibration), "tensorrt")
    return {"tensorrt, all layers": every, **graphs}


def _openvino(
    interpreter: Path, graphs: Mapping[str, onnx.ModelProto], domains: Mapping[str, Domain], folder: Path
) -> dict[str, Any]:
    """The same files in OpenVINO, on this processor and as on lesser ones; run by another interpreter."""
    for name, graph in graphs.items():
        onnx.save(graph, folder / f"{name}.onnx")
    frames = {name: np.stack(domain.images[::4]) for name, domain in domains.items()}
    np.savez(folder / "frames.npz", **frames)
    run = run_in_onnxruntime(graphs["fp32"])
    np.savez(folder / "wanted.npz", **{name: np.stack([run(image)[0] for image in frames[name]]) for name in frames})
    script = Path(__file__).with_name("int8_openvino.py")
    done = subprocess.run([interpreter, script, folder, *graphs], capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(figures, indent=1), flush=True)
    return figures


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "int8"))
