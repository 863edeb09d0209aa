"""The process of its own in which `trusted_convert.py` opens a pickle; only that module starts it.

There are two locks, one behind the other: the unpickler looks names up in a short table and never imports anything, and
`process_lock.py` keeps the process from starting a program, connecting, or writing a file all the same. Before both,
`pickle_extent.py` refuses what would keep the process busy without end.
"""

from __future__ import annotations

import collections
import json
import pickle
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hrda_core.errors import CheckpointError
from hrda_core.interop.pickle_extent import check_extent
from hrda_core.interop.process_lock import lock
from hrda_core.interop.safe_load import plain_names, unwrap_file

__all__ = ["RestrictedUnpickler", "StandIn", "load_restricted", "main"]

_PLAIN: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
    ("torch._utils", "_rebuild_tensor"): lambda *args: torch._utils._rebuild_tensor(*args[:4]),  # type: ignore[no-untyped-call]
    ("torch._utils", "_rebuild_tensor_v2"): lambda *args: torch._utils._rebuild_tensor(*args[:4]),  # type: ignore[no-untyped-call]
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)},
}
"""All that a pickle can get hold of, beside PyTorch's storage types and stand-ins."""


class StandIn:
    """Replaces everything that is not in the table: it accepts any use and does nothing."""

    def __new__(cls, *args: object, **options: object) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def __call__(self, *args: object, **options: object) -> StandIn:
        return self

    def append(self, value: object) -> None:
        """Do nothing."""

    def extend(self, values: object) -> None:
        """Do nothing."""

    def add(self, value: object) -> None:
        """Do nothing."""


class RestrictedUnpickler(pickle.Unpickler):
    """Looks every name up in the table; other names become stand-ins and are noted in `asked`."""

    asked: list[str] = []  # noqa: RUF012  # one process, one file: PyTorch builds the object itself

    def find_class(self, module: str, name: str) -> Any:
        """Return the value of the table, or a fresh stand-in class; nothing is imported."""
        known = _PLAIN.get((module, name))
        if known is not None:
            return known
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        self.asked.append(f"{module}.{name}")
        return type("StandIn", (StandIn,), {})


def load_restricted(file: str | Path) -> tuple[Any, list[str]]:
    """Unpickle `file`; return its content and the sorted names that were replaced by stand-ins."""
    RestrictedUnpickler.asked = []
    module = types.ModuleType("restricted_pickle")
    module.Unpickler = RestrictedUnpickler  # type: ignore[attr-defined]
    module.load = _load  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's advice on its own old storage classes
        payload = torch.load(file, map_location="cpu", pickle_module=module, weights_only=False)
    return payload, sorted(set(RestrictedUnpickler.asked))


def main(source: str, part: str) -> None:
    """Convert `source` to the safetensors file `part`; the last line on stdout is the answer as JSON."""
    answer: dict[str, Any] = {}
    try:
        lock()
        check_extent(Path(source), zipped=zipfile.is_zipfile(source))
        payload, answer["stand_ins"] = load_restricted(source)
        tensors = _unshared(unwrap_file(payload, source))
        about = {"format": "pt", "source": Path(source).name, "classes": _classes(payload)}
        try:
            save_file(tensors, part, about)
        except SafetensorError as error:  # the disk is full
            answer["unwritten"] = str(error)
        answer["tensors"] = len(tensors)
    except CheckpointError as error:
        answer["error"] = str(error)
    except Exception as error:  # whatever a damaged or hostile pickle provokes
        answer["stand_ins"] = sorted(set(RestrictedUnpickler.asked))
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        answer["error"] = f"checkpoint '{source}' cannot be unpickled ({reason}); copy or download it again"
    print(json.dumps(answer))


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Safetensors stores each tensor by itself: copy those that are parts of a larger one or share their memory."""
    seen: set[int] = set()
    own: dict[str, Tensor] = {}
    for name, value in tensors.items():
        storage = value.untyped_storage()
        whole = value.is_contiguous() and storage.nbytes() == value.nbytes and storage.data_ptr() not in seen
        own[name] = value.detach() if whole else value.detach().clone().contiguous()
        seen.add(storage.data_ptr())
    return own


def _load(stream: IO[bytes], **options: Any) -> Any:
    return RestrictedUnpickler(stream, **options).load()


def _classes(payload: object) -> str:
    meta = payload.get("meta") if isinstance(payload, Mapping) else None
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    return json.dumps(plain_names(names))
