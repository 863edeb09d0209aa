"""Reads foreign weights files without running anything that is in them.

`.safetensors` is read directly, `.pth`, `.pt` and `.bin` by PyTorch's weights-only unpickler, which builds tensors and
plain containers. The content of a file decides its kind, not its name. A file that asks for more is refused; the error
names what it asked for and the one command that converts it (`trusted_convert.py`).
"""

from __future__ import annotations

import collections
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hrda_core.errors import CheckpointError, TextError
from hrda_core.interop.pickle_extent import check_extent
from hrda_core.plain_files import open_file
from hrda_core.untrusted_text import parse_json

__all__ = ["DANGEROUS_MODULES", "Checkpoint", "is_dangerous", "plain_names", "read_checkpoint", "unwrap", "unwrap_file"]

_CONTAINERS = ("state_dict", "model")
"""Keys under which training codes put the weights; the first that is there counts."""

_MOST_CLASSES, _LONGEST_NAME = 1000, 100

DANGEROUS_MODULES = frozenset(
    [
        *("asyncio", "atexit", "bdb", "code", "codeop", "commands", "ctypes", "http", "importlib", "inspect"),
        *("marshal", "multiprocessing", "nt", "operator", "os", "pdb", "pickle", "pip", "posix", "pty", "requests"),
        *("runpy", "shutil", "signal", "site", "socket", "ssl", "subprocess", "sys", "tempfile", "threading"),
        *("timeit", "urllib", "webbrowser"),
    ]
)
"""Top-level modules that no description of weights has a use for."""

_HARMLESS_BUILTINS = frozenset(
    [
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object"),
        *("range", "set", "slice", "str", "tuple"),
    ]
)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, named as in the file.

    Attributes:
        name: file name, or `state dict`.
        tensors: the weights; optimizer state and metadata are left out.
        classes: class names that the file records, or empty.
    """

    name: str
    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weights file without running code that is in it.

    Raises:
        CheckpointError: the file is missing, empty, cut off, of another kind, asks for more than tensors and plain
            containers, or holds no weights.
    """
    file = Path(path)
    try:
        kind = _kind(file)
        return _read_safetensors(file) if kind == "safetensors" else _read_torch(file, zipped=kind == "zip")
    except OSError as error:
        raise CheckpointError(f"checkpoint '{file}' cannot be read: {error.strerror or error}") from None


def unwrap(payload: object, name: str) -> dict[str, Tensor]:
    """Return the weights in what a file contains: under `state_dict` or `model`, or the whole.

    Raises:
        CheckpointError: there are none, or something that is not a tensor is among them.
    """
    if isinstance(payload, Mapping):
        inner = next((payload[key] for key in _CONTAINERS if isinstance(payload.get(key), Mapping)), payload)
        tensors = {key: value for key, value in inner.items() if isinstance(key, str) and isinstance(value, Tensor)}
        others = [_shown(key) for key in inner if not (isinstance(key, str) and key in tensors)]
        if tensors and not others:
            return _without_wrapper(tensors)
        if tensors:
            raise CheckpointError(
                f"checkpoint '{name}' has {len(others)} entries among its weights that are no plain tensors "
                f"({', '.join(others[:3])}); expected a plain state dict"
            )
    raise CheckpointError(
        f"checkpoint '{name}' holds no weights; expected tensors by name, alone or under the key 'state_dict'"
    )


def unwrap_file(payload: object, name: str) -> dict[str, Tensor]:
    """Return the weights in what a file contains, as `unwrap`, all with their values.

    Raises:
        CheckpointError: as of `unwrap`, or a tensor has not all its values.
    """
    tensors = unwrap(payload, name)
    if others := [_shown(key) for key, value in tensors.items() if not _has_values(value)]:
        raise CheckpointError(
            f"checkpoint '{name}' has {len(others)} entries among its weights that are no plain tensors "
            f"({', '.join(others[:3])}); expected a plain state dict"
        )
    return tensors


def _has_values(value: Tensor) -> bool:
    """Whether it is a tensor with all its values.

    One of the device `meta` has none, a sparse one only some, and an expanded one has a few that stand for many: 13 MB
    would become a network of any size.
    """
    if value.is_meta or value.layout != torch.strided:
        return False
    return value.nbytes <= value.untyped_storage().nbytes()


def _shown(key: object) -> str:
    """A key for a message; text of anything but names could be endless."""
    return key[:_LONGEST_NAME] if isinstance(key, str) else f"a {type(key).__name__} as name"


def is_dangerous(name: str) -> bool:
    """Return whether a pickle that asks for `module.attribute` is meant to run code rather than to describe weights."""
    top, _, rest = name.partition(".")
    if top in ("builtins", "__builtin__"):
        return rest not in _HARMLESS_BUILTINS
    return top in DANGEROUS_MODULES


def _without_wrapper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefix that a data-parallel wrapper puts before every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _kind(file: Path) -> str:
    """`safetensors`, `zip` or `pickle`, from the first bytes."""
    if not file.is_file():
        raise CheckpointError(f"checkpoint '{file}' is not a file; give the path of a .pth, .pt or .safetensors file")
    with open_file(file) as stream:
        head = stream.read(512)
    size = file.stat().st_size
    if not head:
        raise CheckpointError(f"checkpoint '{file}' is empty; copy or download it again")
    if head.startswith(b"PK"):
        _check_zip(file)
        return "zip"
    if file.suffix == ".safetensors" or (len(head) > 8 and head[8:9] == b"{" and _header_size(head) < size):
        return "safetensors"
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head[:64]):
        start = head[:40].decode("ascii").split("\n")[0].strip()
        raise CheckpointError(
            f"checkpoint '{file}' is a text file that begins with '{start}', not weights; perhaps a web page was "
            f"saved instead of the file: download it again"
        )
    raise CheckpointError(f"checkpoint '{file}' is neither a PyTorch nor a safetensors file; copy or download it again")


def _header_size(head: bytes) -> int:
    size: int = struct.unpack("<Q", head[:8])[0]
    return size


def _check_zip(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except OSError:
        raise
    except Exception:  # zipfile raises BadZipFile, UnicodeDecodeError, NotImplementedError ... for damaged files
        raise CheckpointError(f"checkpoint '{file}' is cut off or damaged; copy or download it again") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"checkpoint '{file}' is a TorchScript program, not weights; expected a state dict")
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(f"checkpoint '{file}' is a zip archive but not a PyTorch file; unpack it first")


def _read_safetensors(file: Path) -> Checkpoint:
    try:
        with safe_open(file, framework="pt") as stored:
            metadata: Mapping[str, str] = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise CheckpointError(
            f"checkpoint '{file}' is cut off or damaged ({_first_line(error)}); copy or download it again"
        ) from None
    return Checkpoint(file.name, unwrap(tensors, file.name), _class_names(metadata.get("classes", "[]")))


def _read_torch(file: Path, *, zipped: bool) -> Checkpoint:
    try:
        check_extent(file, zipped=zipped)
        payload: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except (OSError, CheckpointError):
        raise
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, KeyError ... for damaged files
        raise CheckpointError(_why_refused(file, str(error))) from None
    meta = payload.get("meta") if isinstance(payload, Mapping) else None
    classes = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    return Checkpoint(file.name, unwrap_file(payload, file.name), plain_names(classes))


def plain_names(values: object) -> tuple[str, ...]:
    """Return names of classes, or nothing where one is no text: the text of a list within lists may have no end."""
    if not isinstance(values, (list, tuple)) or len(values) > _MOST_CLASSES:
        return ()
    return tuple(values) if all(isinstance(name, str) and len(name) <= _LONGEST_NAME for name in values) else ()


def _why_refused(file: Path, error: str) -> str:
    asked = re.search(r"(?:GLOBAL|Unsupported class) ([\w.]+)", error)
    if asked is None or not _pickles_are_whole(file):
        return f"checkpoint '{file}' is cut off or damaged ({_first_line(error)}); copy or download it again"
    if is_dangerous(asked.group(1)):
        return (
            f"checkpoint '{file}' asks to run '{asked.group(1)}': it holds code, not just weights; "
            f"nothing was run, do not use this file"
        )
    return (
        f"checkpoint '{file}' asks for '{asked.group(1)}', which is more than tensors and plain values; if you trust "
        f"its origin, convert it in the open with: "
        f"hrda import --convert-trusted {file} --out {file.with_suffix('.safetensors')}"
    )


def _pickles_are_whole(file: Path) -> bool:
    """Whether the four pickles at the start of an old-style file have an end; a zip file has shown that it is whole."""
    if zipfile.is_zipfile(file):
        return True
    try:
        with open_file(file) as stream:
            for _ in range(4):
                collections.deque(pickletools.genops(stream), maxlen=0)  # reads, runs nothing
    except Exception:  # pickletools raises whatever the damage provokes
        return False
    return True


def _class_names(text: str) -> tuple[str, ...]:
    try:
        return plain_names(parse_json(text))
    except TextError:
        return ()


def _first_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:100] if lines else type(error).__name__
