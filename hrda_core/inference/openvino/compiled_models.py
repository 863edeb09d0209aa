"""Keeps compiled models on disk, so that the next start takes a tenth of the time.

It knows nothing of OpenVINO: a compiled model is a set of facts, its bytes, and the bytes of the check that it must
pass (`golden.py`). Every fact is part of the file's name: with another graph, another version, another device there is
no file, and the model is compiled anew. So it is where the file is damaged, or where others can write to it. The file
of other facts about the same subject (of the version before, for example) goes when the new one is written.

A file is the sha256 of the rest, the length of the check, the check, the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hrda_core.errors import BackendError
from hrda_core.inference.say import Say
from hrda_core.inference.trusted_files import Kind, read_trusted
from hrda_core.whole_files import write_whole

__all__ = ["CompiledModels", "StoredModel"]

_KIND = Kind("a compiled model", "compiled models", "it is compiled again")
_ENDING = ".compiled"
_HASH_BYTES, _LENGTH_BYTES = 32, 8
_MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class StoredModel:
    """A compiled model that was read and found whole.

    Attributes:
        model: bytes of the compiled model.
        golden: bytes of its check; empty where there was nothing to compare it with.
    """

    model: bytes
    golden: bytes


class CompiledModels:
    """The compiled models of one folder, which need not exist.

    Args:
        folder: the folder.
        say: takes lines for the user: why a file is not used, or cannot be written.
        most_bytes: the oldest files go when all together are larger.
    """

    def __init__(self, folder: Path, say: Say, most_bytes: int = _MOST_BYTES) -> None:
        self._folder, self._say, self._most_bytes = folder, say, most_bytes

    def find(self, subject: Mapping[str, str], facts: Mapping[str, str]) -> StoredModel | None:
        """Return the compiled model of a subject with these facts, or None where there is none that is whole."""
        name = _name(subject, facts)
        try:
            data = read_trusted(self._folder, name, _KIND)
        except FileNotFoundError:
            return None
        except BackendError as error:
            self._say(f"a compiled model is not used: {error}")
            return None
        content = data[_HASH_BYTES:]
        if hashlib.sha256(content).digest() != data[:_HASH_BYTES]:
            self._say(f"the compiled model '{self._folder / name}' is damaged; it is compiled again")
            return None
        end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        return StoredModel(content[end:], content[_LENGTH_BYTES:end])

    def keep(self, subject: Mapping[str, str], facts: Mapping[str, str], stored: StoredModel) -> None:
        """Write a compiled model in the place of those of the same subject; where that fails, `say` is told."""
        content = len(stored.golden).to_bytes(_LENGTH_BYTES, "little") + stored.golden + stored.model
        path = self._folder / _name(subject, facts)
        try:
            self._folder.mkdir(mode=0o755, parents=True, exist_ok=True)  # not left to the umask
            write_whole(path, hashlib.sha256(content).digest() + content, mode=0o644, error=BackendError)
        except (OSError, BackendError) as error:
            self._say(f"the compiled model is not kept for the next start: {error}")
            return
        for other in self._folder.glob(f"{_key(subject)}-*{_ENDING}"):
            if other != path:
                with suppress(OSError):
                    other.unlink(missing_ok=True)
        self._make_room()

    def discard(self, subject: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Remove a compiled model that turned out to be of no use."""
        with suppress(OSError):
            (self._folder / _name(subject, facts)).unlink(missing_ok=True)

    def _make_room(self) -> None:
        with suppress(OSError):  # another process may do the same
            files = sorted(self._folder.glob(f"*{_ENDING}"), key=lambda path: path.stat().st_mtime)
            total = sum(path.stat().st_size for path in files)
            for path in files[:-1]:
                if total <= self._most_bytes:
                    return
                total -= path.stat().st_size
                path.unlink()


def _name(subject: Mapping[str, str], facts: Mapping[str, str]) -> str:
    return f"{_key(subject)}-{_key({**subject, **facts})}{_ENDING}"


def _key(facts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]
