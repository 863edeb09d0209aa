"""Model bundles: a folder with a manifest, weights and ONNX graphs, checked by hash before anything is loaded.

docs/robot/bundle.md describes the layout and every manifest key. Reading a bundle runs no code.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hrda_core.errors import BundleError, HrdaError, TextError, shown
from hrda_core.folder_locks import locked
from hrda_core.inference.answers import Answer
from hrda_core.inference.onnx_files import stays_inside
from hrda_core.input_scale import InputScale
from hrda_core.labels import LabelSpace
from hrda_core.plain_files import is_file
from hrda_core.untrusted_text import read_yaml_file
from hrda_core.whole_files import file_sha256, write_whole
from hrda_core.window_plan import GRAPH_PLANS, PlanChoice, Size

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "PRECISIONS",
    "SAMPLES_FOLDER",
    "UNLISTED_FOLDERS",
    "Bundle",
    "GraphSpec",
    "change_bundle",
    "file_record",
    "write_manifest",
]

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.yaml"

SAMPLES_FOLDER = "samples"
"""Folder of a bundle with images of its target domain, for parity checks."""

UNLISTED_FOLDERS = ("engines", SAMPLES_FOLDER)
"""Folders of a bundle that the manifest does not list: what this machine built, and pictures not needed to run."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Number formats that a static graph may be written in."""

_LONGEST_SIDE = 1 << 14
_LONGEST_TITLE = 200


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX graph of a bundle: `image` uint8 (1, H, W, 3) RGB in; `labels`, `confidence` uint8 (1, H, W) out.

    Attributes:
        choice: window plan that the graph carries out, one of `GRAPH_PLANS`, with its options.
        file: path inside the bundle.
        size: height and width of the padded image of a static graph, pixels; None = any multiple of `multiple_of`.
        precision: one of `PRECISIONS`, written into the graph.
        answer: what the graph gave for the made image when it was written; None in bundles of older releases.
    """

    choice: PlanChoice
    file: str
    size: Size | None = None
    precision: str = "fp32"
    answer: Answer | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, plan: str, entry: Mapping[str, Any]) -> GraphSpec:
        """Read an entry of the manifest.

        Raises:
            HrdaError, KeyError, TypeError, ValueError: a key is missing or its value makes no sense.
        """
        size, precision = entry.get("size"), str(entry.get("precision", "fp32"))
        if precision not in PRECISIONS:
            raise ValueError(f"graph '{entry['file']}' has the unknown precision '{precision}'")
        answer = None if entry.get("answer") is None else Answer.from_dict(entry["answer"])
        choice = PlanChoice(plan)
        if plan in ("tiles", "topk"):  # others have the keys too, and they mean nothing there
            grid, keep = _pair(entry.get("grid", (1, 1))), int(entry.get("keep", 0)) or None
            choice = PlanChoice(plan, grid, int(entry.get("overlap", 0)), keep)
        return cls(choice, str(entry["file"]), None if size is None else _pair(size), precision, answer)

    @property
    def plan(self) -> str:
        """Name of the window plan."""
        return self.choice.name

    def made_size(self, multiple_of: int) -> Size:
        """Return height and width of the made image to which `answer` is the answer, pixels."""
        return self.size or (2 * multiple_of, 3 * multiple_of)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the manifest, without the plan."""
        return {
            "file": self.file,
            "grid": list(self.choice.grid or (1, 1)),
            "size": None if self.size is None else list(self.size),
            "precision": self.precision,
            "overlap": self.choice.overlap,
            "keep": self.choice.keep or 0,
            **({} if self.answer is None else {"answer": self.answer.to_dict()}),
        }


@dataclass(frozen=True)
class Bundle:
    """A checked model folder. Build it with `Bundle.open`.

    Attributes:
        path: the folder.
        name: name of the model, for logs and topics.
        preset: network preset (`hrda models`).
        label_space: classes of the output ids.
        mean, std: normalisation of the network input, RGB on the 0..255 scale (already inside the ONNX graphs).
        multiple_of: image sides are padded up to a multiple of this, pixels.
        scale: how images are resized before inference, and the scale of the training.
        context_scale: factor of the context image.
        default_plan: plan that is used by default.
        graphs: plan name to the graph that takes any image size.
        static_graphs: graphs of one image size each; plan, size and precision together are unique. Graphs of plans that
            this release does not have are left out.
        manifest: the whole manifest as read, for provenance and display.
    """

    path: Path
    name: str
    preset: str
    label_space: LabelSpace
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    multiple_of: int
    scale: InputScale
    context_scale: float
    default_plan: str
    graphs: Mapping[str, GraphSpec]
    static_graphs: tuple[GraphSpec, ...]
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> Bundle:
        """Read the manifest of `path` and check size and sha256 of every file that it lists.

        Args:
            path: bundle folder.
            verify: False skips the hashes (sizes are still checked); for tools that only show the manifest.

        Raises:
            BundleError: there is no such folder, the manifest is missing, unreadable, of another format version or
                without a needed key, or a file is missing or does not match its recorded size or hash (the file is
                named).
        """
        folder = Path(path)
        manifest = _read_checked(folder, verify)
        try:
            return cls(
                path=folder,
                name=_title(manifest["name"]),
                preset=_title(manifest["preset"]),
                label_space=LabelSpace.from_dict(manifest["label_space"]),
                mean=_triple(manifest["normalisation"]["mean"], _finite),
                std=_triple(manifest["normalisation"]["std"], _positive),
                multiple_of=_pixels(manifest["input"]["multiple_of"]),
                scale=InputScale.from_dict(manifest["input"]),
                context_scale=_positive(manifest["context_scale"]),
                default_plan=str(manifest["default_plan"]),
                graphs=_graphs(manifest),
                static_graphs=_static_graphs(manifest),
                manifest=manifest,
            )
        except (AttributeError, LookupError, TypeError, ValueError, OverflowError, HrdaError) as error:
            raise BundleError(
                f"the manifest of model bundle '{folder}' lacks or garbles a key ({error!r}); "
                f"export the bundle again with 'hrda export'"
            ) from error

    def file(self, name: str) -> Path:
        """Return the path of a file inside the bundle."""
        return self.path / name

    @property
    def tile_grid(self) -> Size:
        """Rows and columns of the detail tiles of the graph `tiles` for any size; (1, 1) where there is none."""
        tiles = self.graphs.get("tiles")
        return (tiles.choice.grid if tiles else None) or (1, 1)

    @property
    def plans(self) -> tuple[str, ...]:
        """Window plans for which the bundle has a graph, those for any image size first."""
        return tuple(dict.fromkeys([*self.graphs, *(graph.plan for graph in self.static_graphs)]))


def file_record(path: Path) -> dict[str, Any]:
    """Return size in bytes and sha256 of a file, as the manifest keeps them."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the `manifest.yaml` of a new bundle, with records of all other files of the folder.

    Raises:
        BundleError: it cannot be written.
    """
    files = {
        str(path.relative_to(folder)): file_record(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME and path.relative_to(folder).parts[0] not in UNLISTED_FOLDERS
    }
    _write_manifest(folder, manifest, files)


def change_bundle(
    folder: Path, change: Callable[[Bundle], tuple[Mapping[str, Any], Mapping[str, bytes | None]]]
) -> None:
    """Change the manifest and other files of a bundle, which can be opened at every moment, even after a kill.

    Files that change leave the manifest before they are written and come back to it after. A file that a graph needs
    cannot, so a graph that changes gets a new name. Processes that change a bundle at the same time wait for each
    other.

    Args:
        folder: the bundle.
        change: takes the bundle as it is now; returns its new manifest and the files to write: path inside the
            bundle -> content, or None to remove the file.

    Raises:
        BundleError: there is no bundle, or it cannot be written; it can still be opened.
    """
    with locked(folder, f"changing the bundle '{folder}'", lambda _: None, error=BundleError):
        bundle = Bundle.open(folder, verify=False)
        try:
            _carry_out(bundle, *change(bundle))
        except OSError as error:
            raise BundleError(f"bundle '{folder}' cannot be written ({error}); it opens as it is") from error


def _carry_out(bundle: Bundle, manifest: Mapping[str, Any], files: Mapping[str, bytes | None]) -> None:
    before: dict[str, Any] = dict(bundle.manifest["files"])
    written = {name: content for name, content in files.items() if content is not None}
    records = {name: _record(content) for name, content in written.items()}
    changed = {name for name, record in records.items() if before.get(name, record) != record}
    if changed:
        _write_manifest(bundle.path, bundle.manifest, {name: before[name] for name in before if name not in changed})
    for name, content in written.items():
        write_whole(bundle.file(name), content, error=BundleError)
    kept = {name: record for name, record in before.items() if name not in files}
    _write_manifest(bundle.path, manifest, dict(sorted((kept | records).items())))
    for name in files.keys() - written.keys():
        bundle.file(name).unlink(missing_ok=True)


def _record(content: bytes) -> dict[str, Any]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _write_manifest(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, Any]) -> None:
    values = {"format_version": FORMAT_VERSION, **manifest, "files": dict(files)}
    text = yaml.safe_dump(values, sort_keys=False, width=120)
    write_whole(folder / MANIFEST_NAME, text, error=BundleError)


def _read_checked(folder: Path, verify: bool) -> dict[str, Any]:
    """The manifest, whose files are what it says; read again where the bundle is changed in the meantime."""
    while True:
        manifest = _read_manifest(folder)
        try:
            _check_files(folder, manifest, verify)
        except (BundleError, FileNotFoundError):
            if _read_manifest(folder) == manifest:
                raise
        else:
            return manifest


def _read_manifest(folder: Path) -> dict[str, Any]:
    where = f"model bundle '{shown(folder, 500)}'"
    if not os.path.isdir(folder):  # also for a name that is too long for the disk
        raise BundleError(f"{where} is not a folder; give the path of a bundle, or a name that 'hrda models' lists")
    path = folder / MANIFEST_NAME
    try:
        manifest = read_yaml_file(path)
    except FileNotFoundError:
        raise BundleError(f"{where} has no {MANIFEST_NAME}; give the folder that 'hrda export' wrote") from None
    except (OSError, TextError) as error:
        raise BundleError(f"{where}: {MANIFEST_NAME} is not readable ({error}); copy the bundle again") from None
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise BundleError(f"{where}: {MANIFEST_NAME} has no 'format_version'; copy or export the bundle again")
    version = manifest["format_version"]
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{where} has format version {version!r}, this release reads {FORMAT_VERSION}; "
            f"export it again with this release, or use the release that wrote it"
        )
    return manifest


def _check_files(folder: Path, manifest: Mapping[str, Any], verify: bool) -> None:
    where = f"model bundle '{folder}'"
    records = manifest.get("files")
    if not isinstance(records, dict) or not records:
        raise BundleError(f"{where}: {MANIFEST_NAME} lists no files; copy or export the bundle again")
    for name, record in records.items():
        path, file = folder / str(name), f"file '{shown(name)}'"
        # Judged by its text: `colcon build --symlink-install` links files, and their hash must be right.
        if not stays_inside(str(name)):
            raise BundleError(f"{where}: {file} leaves the bundle folder; do not use this bundle")
        if not isinstance(record, dict) or not {"bytes", "sha256"} <= record.keys():
            raise BundleError(f"{where}: the record of {file} lacks 'bytes' or 'sha256'; export the bundle again")
        if not is_file(path):
            raise BundleError(f"{where}: {file} is missing; copy the bundle again, whole")
        size = path.stat().st_size
        if size != record["bytes"]:
            raise BundleError(
                f"{where}: {file} has {size} bytes, the manifest says {record['bytes']}; copy the bundle again"
            )
        if verify and file_sha256(path) != record["sha256"]:
            raise BundleError(
                f"{where}: the sha256 of {file} does not match the manifest; the file was changed or damaged, "
                f"copy the bundle again"
            )


def _graphs(manifest: Mapping[str, Any]) -> dict[str, GraphSpec]:
    listed: dict[str, Any] = manifest["graphs"]
    graphs = {plan: GraphSpec.from_dict(plan, entry) for plan, entry in listed.items() if plan in GRAPH_PLANS}
    _check_listed(manifest, graphs.values())
    if manifest["default_plan"] not in graphs:
        raise ValueError(f"default_plan '{manifest['default_plan']}' is not among the graphs {sorted(graphs)}")
    return graphs


def _static_graphs(manifest: Mapping[str, Any]) -> tuple[GraphSpec, ...]:
    listed = [entry for entry in manifest.get("static_graphs", ()) if entry["plan"] in GRAPH_PLANS]
    graphs = tuple(GraphSpec.from_dict(entry["plan"], entry) for entry in listed)
    _check_listed(manifest, graphs)
    for graph in graphs:
        if graph.size is None:
            raise ValueError(f"static graph '{graph.file}' has no size")
    return graphs


def _check_listed(manifest: Mapping[str, Any], graphs: Iterable[GraphSpec]) -> None:
    for graph in graphs:
        if graph.file not in manifest["files"]:
            raise ValueError(f"graph '{graph.plan}' uses a file that the manifest does not list: {graph.file}")


def _pair(values: Any) -> tuple[int, int]:
    first, second = (_pixels(value) for value in values)
    return first, second


def _triple(values: Any, one: Callable[[Any], float]) -> tuple[float, float, float]:
    red, green, blue = (one(value) for value in values)
    return red, green, blue


def _title(value: Any) -> str:
    """A name that stands in logs, terminals and diagnostics."""
    text = str(value)
    if len(text) > _LONGEST_TITLE or not text.isprintable():
        raise ValueError(f"the name '{shown(text)}' is longer than {_LONGEST_TITLE} characters or cannot be printed")
    return text


def _pixels(value: Any) -> int:
    if not 1 <= int(value) <= _LONGEST_SIDE:
        raise ValueError(f"{value} is no number from 1 to {_LONGEST_SIDE}")
    return int(value)


def _positive(value: Any) -> float:
    if _finite(value) <= 0:
        raise ValueError(f"{value} is not positive")
    return float(value)


def _finite(value: Any) -> float:
    if not math.isfinite(float(value)):
        raise ValueError(f"{value} is not finite")
    return float(value)
