"""The arms that plan_costs.py compares: ways to run one network, and how each is opened.

Every arm has the weights of models/hrda_lite and sees the frame padded to a multiple of 64 (CamVid: 384 x 512), and its
masks are cut back: padding alone changes several per cent of the pixels, which would hide what a plan changes. Arms
named "8 px" pad as `predict_logits` does by itself.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hrda_core.bench.record import ROOT
from hrda_core.deploy.network import load_network
from hrda_core.deploy.static_export import StaticRequest, export_static
from hrda_core.inference import Bundle, Predictor
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.whole_files import replaced_folder
from hrda_core.window_plan import CropBox, PlanChoice, Size, WindowPlan
from hrda_core.windows.torch_windows import plan_for, run_plan

__all__ = [
    "ARMS",
    "CHECK_ARMS",
    "GRID",
    "NESTED",
    "OVERLAP",
    "OVERLAP_GRAPH",
    "Arm",
    "Runner",
    "arm_named",
    "graph_file",
    "open_arm",
    "padded",
]

UInt8Array = npt.NDArray[np.uint8]

BUNDLE = ROOT / "models" / "hrda_lite"
PADDING = 64


@dataclass(frozen=True)
class Arm:
    """One way to segment a frame.

    Attributes:
        name: name in tables and pictures.
        choice: window plan.
        engine: `onnx` = a static graph, everything folded, in ONNX Runtime; `torch` = eager PyTorch, nothing folded.
        max_batch: `torch`: see `predict_logits`.
        multiple: the frame is padded to a multiple of this, pixels.
        moved: `overlap` in PyTorch: its inner detail crops lie this far from their places, rows and columns of pixels.
        bundle: another model than models/hrda_lite.
    """

    name: str
    choice: PlanChoice
    engine: str = "onnx"
    max_batch: int | None = 1
    multiple: int = PADDING
    moved: Size = (0, 0)
    bundle: Path = BUNDLE

    @property
    def slug(self) -> str:
        """Name of a folder."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name)

    @property
    def graph_key(self) -> str:
        """Arms with the same key run the same graph."""
        rows, columns = self.choice.grid or (1, 1)
        return f"{self.bundle.name}_{self.choice.name}_{rows}x{columns}_{self.choice.overlap}_{self.choice.keep or 0}"


NESTED, OVERLAP, OVERLAP_GRAPH = "nested", "overlap", "overlap, graph"
GRID = (2, 2)

ARMS: tuple[Arm, ...] = (
    Arm(NESTED, PlanChoice("nested"), "torch"),
    Arm(OVERLAP, PlanChoice("overlap"), "torch"),
    Arm(OVERLAP_GRAPH, PlanChoice("overlap")),
    Arm("tiles 1x1", PlanChoice("tiles", (1, 1))),
    Arm("tiles", PlanChoice("tiles", GRID)),
    Arm("tiles, feathered", PlanChoice("tiles", GRID, 32)),
    Arm("tiles 3x3, feathered", PlanChoice("tiles", (3, 3), 32)),
    Arm("topk 3 of 4", PlanChoice("topk", GRID, keep=3)),
    Arm("topk 2 of 4", PlanChoice("topk", GRID, keep=2)),
    Arm("topk 1 of 4", PlanChoice("topk", GRID, keep=1)),
    Arm("topk 2 of 4, feathered", PlanChoice("topk", GRID, 32, keep=2)),
    Arm("context", PlanChoice("context")),
)

CHECK_ARMS: tuple[Arm, ...] = (
    Arm("nested, 8 px", PlanChoice("nested"), "torch", multiple=1),
    Arm("overlap, 8 px", PlanChoice("overlap"), "torch", multiple=1),
    Arm("overlap, crops moved", PlanChoice("overlap"), "torch", moved=(32, 40)),
)
"""How much the dearest plans change by what should not matter: padding, and where detail crops begin."""

Runner = Callable[[UInt8Array], "tuple[UInt8Array, UInt8Array | None]"]
"""An opened arm: RGB uint8 (H, W, 3) -> class ids, and confidence in ONNX Runtime, both uint8 (H, W)."""


def arm_named(name: str, also: Sequence[Arm] = ()) -> Arm:
    """Return the arm of this name.

    Raises:
        SystemExit: there is none.
    """
    known = {arm.name: arm for arm in (*ARMS, *CHECK_ARMS, *also)}
    if name not in known:
        raise SystemExit(f"there is no arm '{name}'; choose from: {'; '.join(known)}")
    return known[name]


def open_arm(arm: Arm, work: Path, size: Size, images: Sequence[UInt8Array], threads: int = 1) -> Runner:
    """Load an arm for frames of `size`, height and width in pixels.

    Args:
        work: folder for the bundles with the arms' graphs.
        images: images for the export's comparison with PyTorch, if the graph does not exist yet.
        threads: threads of ONNX Runtime. PyTorch has one number of threads for the whole process.
    """
    if arm.engine == "torch":
        return _torch_runner(arm)
    folder = _bundle_with_graph(arm, work, size, images)
    predictor = Predictor(folder, "onnx", arm.choice.name, threads=threads)

    def run(rgb: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        found, (height, width) = predictor(padded(rgb, arm.multiple)), rgb.shape[:2]
        return found.labels[:height, :width], found.confidence[:height, :width]

    return run


def graph_file(arm: Arm, work: Path, size: Size) -> tuple[Path, Size]:
    """Return the static graph of an arm that `open_arm` wrote, and its size."""
    bundle = Bundle.open(work / "bundles" / arm.graph_key)
    graph = next(graph for graph in bundle.static_graphs if graph.size == _up(size, arm.multiple))
    assert graph.size is not None
    return bundle.file(graph.file), graph.size


def padded(rgb: UInt8Array, multiple: int) -> UInt8Array:
    """Repeat the border at the bottom and right up to a multiple."""
    height, width = _up(rgb.shape[:2], multiple)
    return np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="edge")


def _up(size: Sequence[int], multiple: int) -> Size:
    height, width = (math.ceil(side / multiple) * multiple for side in size)
    return height, width


def _bundle_with_graph(arm: Arm, work: Path, size: Size, images: Sequence[UInt8Array]) -> Path:
    """A copy of the arm's bundle with its static graph for padded frames of `size`."""
    folder = work / "bundles" / arm.graph_key
    if not folder.exists():
        with replaced_folder(folder, MANIFEST_NAME) as copy:
            shutil.copytree(arm.bundle, copy)
    bundle, whole = Bundle.open(folder), _up(size, arm.multiple)
    if all(graph.size != whole for graph in bundle.static_graphs):
        export_static(bundle, StaticRequest(arm.choice, whole), [padded(image, arm.multiple) for image in images])
    return folder


def _torch_runner(arm: Arm) -> Runner:
    bundle = Bundle.open(arm.bundle)
    network = load_network(bundle).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (bundle.mean, bundle.std))

    def run(rgb: UInt8Array) -> tuple[UInt8Array, None]:
        image = (torch.from_numpy(padded(rgb, arm.multiple)).permute(2, 0, 1)[None].float() - mean) / std
        plan = _moved(plan_for(network, arm.choice, *image.shape[2:]), arm.moved)
        with torch.inference_mode():
            logits = run_plan(network, image, plan, arm.max_batch)[0, :, : rgb.shape[0], : rgb.shape[1]]
            return logits.argmax(0).to(torch.uint8).numpy(), None

    return run


def _moved(plan: WindowPlan, by: Size) -> WindowPlan:
    """The plan of one window with its inner detail crops moved; those at the border stay, so that all is covered."""
    if by == (0, 0):
        return plan
    rows = _moved_along({(box.y1, box.y2) for box in plan.detail}, by[0], plan.padded_height)
    columns = _moved_along({(box.x1, box.x2) for box in plan.detail}, by[1], plan.padded_width)
    detail = tuple(CropBox(y1, y2, x1, x2) for y1, y2 in rows for x1, x2 in columns)
    return replace(plan, detail=detail, detail_of=(tuple(range(len(detail))),))


def _moved_along(spans: set[tuple[int, int]], by: int, side: int) -> list[tuple[int, int]]:
    edges = {span for span in spans if span[0] == 0 or span[1] == side}
    return sorted(edges | {(start + by, end + by) for start, end in spans if end + by <= side})
