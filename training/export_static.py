"""Add a graph for one image size, and if wanted its TensorRT engine, to a bundle; see `hrda export`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import read_image
from hrda_core.errors import BackendError, BundleError, DataError, RecipeError
from hrda_core.inference import Bundle
from hrda_core.inference.bundle import MANIFEST_NAME, GraphSpec
from hrda_core.whole_files import replaced_folder, write_json
from hrda_core.window_plan import PlanChoice, parse_pair

from .progress import ProgressPrinter

if TYPE_CHECKING:
    import onnx

    from hrda_core.deploy.static_export import StaticReport

__all__ = ["SAMPLES_FOLDER", "add_graph", "is_bundle"]

SAMPLES_FOLDER = "samples"
"""Folder of a bundle with images of its target domain, for parity checks."""

_MOST_IMAGES = 8
_SUFFIXES = (".jpg", ".jpeg", ".png")
UInt8Array = npt.NDArray[np.uint8]


def is_bundle(folder: Path) -> bool:
    """Whether the folder is a model bundle."""
    return (folder / MANIFEST_NAME).is_file()


def add_graph(options: Any) -> None:
    """Write the graph that the options ask for, say how it agrees with PyTorch, and build its engine if wanted.

    Raises:
        HrdaError: a mistake in the options, a bundle that cannot be used or written, a graph below the bar.
    """
    if options.engine and options.size:
        _require_gpu()
    bundle = _open(options)
    graph = _write(bundle, options) if options.size else _present(bundle, options)
    if options.engine:
        _build_engine(Bundle.open(bundle.path, verify=False), graph, options)


def _open(options: Any) -> Bundle:
    """The bundle that gets the graph: the one given, or a copy of it at --out."""
    bundle = Bundle.open(options.run)
    if options.out is None or options.out.resolve() == options.run.resolve():
        return bundle
    if options.out.exists():
        raise BundleError(f"'{options.out}' exists; choose another folder for the copy, or leave --out away")
    with replaced_folder(options.out, MANIFEST_NAME, error=BundleError) as copy:
        shutil.copytree(bundle.path, copy, ignore=shutil.ignore_patterns("engines", ".*"))
    return Bundle.open(options.out, verify=False)


def _write(bundle: Bundle, options: Any) -> GraphSpec:
    from hrda_core.deploy.static_export import StaticRequest, export_static

    request = StaticRequest(
        PlanChoice.parse(options.plan or bundle.default_plan, options.grid, options.overlap, options.keep),
        parse_pair("--size", options.size),
        options.precision,
        options.opset,
        options.long_side,
    )
    quantise = _quantiser(options) if options.precision == "int8" else None
    report = export_static(bundle, request, _parity_images(bundle, options), quantise=quantise, say=print)
    _tell(report)
    if options.json:
        write_json(options.json, _record(bundle, report))
    return report.graph


def _quantiser(options: Any) -> Any:
    from hrda_core.deploy.int8.search import quantise_to_agree

    from .calibration_images import calibration_images

    if options.calibration is None:
        raise RecipeError(
            "--precision int8 needs --calibration: a folder of images, a video or a recording of the target domain"
        )

    def run(model: onnx.ModelProto, padded: Sequence[UInt8Array]) -> onnx.ModelProto:
        height, width = padded[0].shape[1:3]
        images = list(calibration_images(options.calibration, (height, width)))
        found = quantise_to_agree(model, images, backend=options.int8_for, say=print)
        print(f"{found.layers - len(found.kept)} of {found.layers} layers in int8")
        return found.model

    return run


def _parity_images(bundle: Bundle, options: Any) -> list[UInt8Array]:
    where: Path = options.images or bundle.path / SAMPLES_FOLDER
    if where.is_file():
        return [read_image(where)]
    found = sorted(path for path in where.rglob("*") if path.suffix.lower() in _SUFFIXES) if where.is_dir() else []
    if not found:
        if options.images:
            raise DataError(f"'{where}' is no image and no folder with images ({', '.join(_SUFFIXES)})")
        raise DataError(
            f"bundle '{bundle.path}' has no samples to compare the graph on; give an image of the camera or a folder "
            f"of them with --images"
        )
    step = -(-len(found) // _MOST_IMAGES)
    return [read_image(path) for path in found[::step]]


def _present(bundle: Bundle, options: Any) -> GraphSpec:
    """The static graph for --engine without --size: the only one of its plan and precision."""
    plan = options.plan or bundle.default_plan
    wanted = (plan, options.precision)
    graphs = [graph for graph in bundle.static_graphs if (graph.plan, graph.precision) == wanted]
    if len(graphs) != 1:
        have = ", ".join(graph.file for graph in bundle.static_graphs) or "none"
        raise BackendError(
            f"--engine without --size takes the one graph of plan '{plan}' in {options.precision}; bundle "
            f"'{bundle.path}' has {len(graphs)} of that kind (graphs of one size: {have}); give --size HEIGHTxWIDTH"
        )
    return graphs[0]


def _require_gpu() -> None:
    """Say now, and not after minutes of exporting, that no engine can be built here."""
    from hrda_core.errors import GpuError
    from hrda_core.nvidia_driver import require_driver

    try:
        require_driver()
    except GpuError as error:
        raise GpuError(
            f"no engine can be built: {error}; leave out --engine here, and build it on the machine that will run it"
        ) from error


def _build_engine(bundle: Bundle, graph: GraphSpec, options: Any) -> None:
    _require_gpu()  # before a progress bar of nothing
    from hrda_core.inference.backends.tensorrt_engines import ensure_engine
    from hrda_core.inference.tensorrt.builder import BuildOptions

    build = BuildOptions(workspace_bytes=options.workspace_mib << 20)
    with ProgressPrinter() as printer:
        path = ensure_engine(bundle, graph, build, rebuild=options.rebuild, say=print, progress=printer.build)
    print(f"engine: {path}")


def _tell(report: StaticReport) -> None:
    graph = report.graph
    assert graph.size is not None
    grid, choice = graph.choice.grid or (1, 1), graph.choice
    tiles = f", {grid[0]} x {grid[1]} tiles" if grid != (1, 1) else ""
    tiles += f", {choice.keep} of them run" if choice.keep else ""
    tiles += f", sharing {choice.overlap} pixels" if choice.overlap else ""
    print(f"{graph.file}: images padded to {graph.size[0]}x{graph.size[1]}{tiles}, {report.nodes} operations")
    images = f"{report.images} image{'s' if report.images > 1 else ''}"
    print(
        f"{100 * report.agreement:.3f} % of the pixels of {images} equal to PyTorch in single precision "
        f"(worst image {100 * report.worst_agreement:.3f} %), confidence within {report.confidence}/255"
    )


def _record(bundle: Bundle, report: StaticReport) -> dict[str, Any]:
    return {
        "bundle": str(bundle.path),
        "graph": {"plan": report.graph.plan, **report.graph.to_dict()},
        "images": report.images,
        "agreement": report.agreement,
        "worst_agreement": report.worst_agreement,
        "confidence": report.confidence,
        "nodes": report.nodes,
        "bytes": report.bytes,
    }
