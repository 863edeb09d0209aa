"""Adds a graph for one image size, and if wanted its TensorRT engine, to a bundle; see `hrda export`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import IMAGE_SUFFIXES, read_image
from hrda_core.errors import BackendError, BundleError, DataError, RecipeError, require
from hrda_core.inference import Bundle
from hrda_core.inference.bundle import MANIFEST_NAME, SAMPLES_FOLDER, GraphSpec
from hrda_core.inference.model_folders import changeable, copy_bundle, launch_line
from hrda_core.whole_files import replaced_folder, write_json
from hrda_core.window_plan import PlanChoice, Size

from .progress import ProgressPrinter

if TYPE_CHECKING:
    import onnx

    from hrda_core.deploy.static_export import StaticReport

    from .export import ExportRequest

__all__ = ["add_graph"]

_MOST_IMAGES = 8
UInt8Array = npt.NDArray[np.uint8]


def add_graph(request: ExportRequest, json: Path | None) -> None:
    """Write the requested graph, report its agreement with PyTorch, and build its engine if that is wanted.

    A bundle that came with the package, or that cannot be written, stays as it is: its copy in the home of the user's
    models is changed, see `hrda_core.inference.model_folders`.

    Args:
        request: request for a bundle.
        json: file for the figures; None = none.

    Raises:
        HrdaError: the request has a mistake, the bundle cannot be used or written, or the graph agrees too little.
    """
    if request.size:
        if request.engine:
            _require_gpu()
        bundle, graph = _write(Bundle.open(request.run), request, request.size, json)
    else:
        # An engine lies beside the bundle or in the cache folder and changes nothing: no copy is made for it.
        folder = request.run if request.out else changeable(request.run, print, copy=False)
        bundle = _to_change(Bundle.open(folder), request)
        graph = _present(bundle, request)
    if request.engine:
        _build_engine(Bundle.open(bundle.path, verify=False), graph, request)
    print(f"to run it on the robot: {_launch_line(bundle, graph, request)}")


def _to_change(bundle: Bundle, request: ExportRequest) -> Bundle:
    """The bundle that gets the graph: the one given, or a copy of it at --out or in the home of the user's models."""
    out = request.out
    if out is None:
        out = changeable(bundle.path, print) if request.size else bundle.path
    elif out.resolve() == request.run.resolve():  # asked for by name: it is changed where it is
        return bundle
    elif out.exists():
        raise BundleError(f"'{out}' exists; choose another folder for the copy, or leave --out away")
    else:
        copy_bundle(bundle, out)
    return bundle if out == bundle.path else Bundle.open(out, verify=False)


def _write(bundle: Bundle, request: ExportRequest, size: Size, json: Path | None) -> tuple[Bundle, GraphSpec]:
    require("torch", "train")
    from hrda_core.deploy.static_export import StaticRequest, export_static

    choice = PlanChoice(request.plan or bundle.default_plan, request.grid, request.overlap, request.keep)
    wanted = StaticRequest(choice, size, request.precision, request.opset, request.long_side)
    quantise = _quantiser(request) if request.precision == "int8" else None
    images = _parity_images(bundle, request)
    with _changed(bundle, request) as place:  # after all that shows a mistake at once
        report = export_static(place, wanted, images, quantise=quantise, say=print)
    changed = Bundle.open(request.out or place.path, verify=False)
    _tell(report)
    if json:
        write_json(json, _record(changed, report))
    return changed, report.graph


@contextmanager
def _changed(bundle: Bundle, request: ExportRequest) -> Iterator[Bundle]:
    """The bundle to change; a copy at --out appears there when the block has ended well, never without its graph."""
    if request.out is None or request.out.exists():
        yield _to_change(bundle, request)
        return
    with replaced_folder(request.out, MANIFEST_NAME, error=BundleError) as part:
        copy_bundle(bundle, part)
        yield Bundle.open(part, verify=False)


def _launch_line(bundle: Bundle, graph: GraphSpec, request: ExportRequest) -> str:
    options = [] if graph.plan == bundle.default_plan else [f"plan:={graph.plan}"]
    if request.engine:
        options += ["backend:=tensorrt"]
    elif graph.precision == "fp16" or (graph.precision == "int8" and request.int8_for == "tensorrt"):
        options += ["build_engine:=true"]
    if graph.precision == "int8":  # the node takes fp16 by itself where there is an engine of it
        options += ["precision:=int8"]
    return launch_line(bundle.path, *options)


def _quantiser(request: ExportRequest) -> Any:
    from hrda_core.deploy.int8.search import quantise_to_agree

    from .calibration_images import calibration_images

    footage = request.calibration
    if footage is None:
        raise RecipeError(
            "--precision int8 needs --calibration: a folder of images, a video or a recording of the target domain"
        )

    def run(model: onnx.ModelProto, padded: Sequence[UInt8Array]) -> onnx.ModelProto:
        height, width = padded[0].shape[1:3]
        images = list(calibration_images(footage, (height, width)))
        found = quantise_to_agree(model, images, backend=request.int8_for, say=print)
        print(f"{found.layers - len(found.kept)} of {found.layers} layers in int8")
        return found.model

    return run


def _parity_images(bundle: Bundle, request: ExportRequest) -> list[UInt8Array]:
    where: Path = request.images or bundle.path / SAMPLES_FOLDER
    if where.is_file():
        return [read_image(where)]
    found = sorted(path for path in where.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES) if where.is_dir() else []
    if not found:
        if request.images:
            raise DataError(f"'{where}' is no image and no folder with images ({', '.join(IMAGE_SUFFIXES)})")
        raise DataError(
            f"bundle '{bundle.path}' has no samples to compare the graph on; give an image of the camera or a folder "
            f"of them with --images"
        )
    step = -(-len(found) // _MOST_IMAGES)
    return [read_image(path) for path in found[::step]]


def _present(bundle: Bundle, request: ExportRequest) -> GraphSpec:
    """The static graph for --engine without --size: the only one of its plan and precision."""
    plan = request.plan or bundle.default_plan
    wanted = (plan, request.precision)
    graphs = [graph for graph in bundle.static_graphs if (graph.plan, graph.precision) == wanted]
    if len(graphs) != 1:
        have = ", ".join(graph.file for graph in bundle.static_graphs) or "none"
        raise BackendError(
            f"--engine without --size takes the one graph of plan '{plan}' in {request.precision}; bundle "
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


def _build_engine(bundle: Bundle, graph: GraphSpec, request: ExportRequest) -> None:
    _require_gpu()  # before a progress bar of nothing
    from hrda_core.inference.backends.tensorrt_engines import ensure_engine
    from hrda_core.inference.tensorrt.builder import BuildOptions

    build = BuildOptions(workspace_bytes=request.workspace_mib << 20)
    with ProgressPrinter() as printer:
        path = ensure_engine(bundle, graph, build, rebuild=request.rebuild, say=print, progress=printer.build)
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
