"""Stores engines on disk.

It knows nothing of TensorRT: an engine is a set of facts and the bytes that a function builds.

The folder holds for each engine KEY.plan, KEY.golden (the check that it must pass, see golden.py) and KEY.json, the
manifest, which is written last: where it exists, the others are whole. Killed builds leave files that no manifest
names; the next build removes them.

The manifest's hash over itself finds accidents, not attackers. Against those serve the owner and the permissions of
folder and files (trusted_files.py).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.errors import BackendError, TextError
from hrda_core.folder_locks import locked
from hrda_core.inference.tensorrt.engine_key import difference, engine_key
from hrda_core.inference.trusted_files import check_folder, read_trusted
from hrda_core.untrusted_text import parse_json
from hrda_core.whole_files import PART_SUFFIX, sync, write_whole

__all__ = ["EngineCache", "StoredEngine"]

_FORMAT = 1
_SPACE = "make space there, or set HRDA_CACHE to a folder on another disk"
_AGAIN = "build the engine again with 'hrda export BUNDLE --engine'"


@dataclass(frozen=True)
class StoredEngine:
    """An engine that was read and found whole.

    Attributes:
        path: the plan's file.
        plan: its bytes, whose hash was checked.
        golden: bytes of the check, as `prove` returned them.
        manifest: facts, sizes, hashes, time of the build.
    """

    path: Path
    plan: bytes
    golden: bytes
    manifest: Mapping[str, Any]


class EngineCache:
    """The engines of one folder, for example `BUNDLE/engines`. The folder need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, facts: Mapping[str, str]) -> StoredEngine | None:
        """Return the engine for these facts, or None if there is none.

        Raises:
            BackendError: there is one, but it is truncated, changed, for something else, or others can write to it.
        """
        key = engine_key(facts)
        try:
            manifest = self._manifest(f"{key}.json")
        except FileNotFoundError:
            return None
        other = difference(manifest["facts"], facts)
        if other is not None:
            raise BackendError(f"engine '{self.folder / key}.plan' {other}; {_AGAIN}")
        plan = self._checked(f"{key}.plan", manifest["plan"])
        golden = self._checked(f"{key}.golden", manifest["golden"])
        return StoredEngine(self.folder / f"{key}.plan", plan, golden, manifest)

    def other_engine(self, facts: Mapping[str, str]) -> str | None:
        """Say why the engines that are here for the same bundle and graph do not fit; return None if there are none."""
        reasons = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                built = self._manifest(path.name)["facts"]
            except (BackendError, FileNotFoundError) as error:
                reasons.append((99, str(error)))
                continue
            if all(built.get(name) == facts.get(name) for name in ("bundle", "graph")):
                differing = sum(built.get(name) != value for name, value in facts.items())
                reasons.append((differing, f"engine '{path.with_suffix('.plan')}' {difference(built, facts)}"))
        return min(reasons)[1] if reasons else None

    def get_or_build(
        self,
        facts: Mapping[str, str],
        build: Callable[[], bytes],
        prove: Callable[[bytes], bytes] = lambda plan: b"",
        *,
        say: Callable[[str], None] = lambda line: None,
    ) -> StoredEngine:
        """Return the engine for these facts, built if there is none that is whole.

        Processes that ask at the same time build once.

        Args:
            build: returns the plan.
            prove: takes the plan and returns the golden check; raises to refuse the plan.
            say: takes lines for the user: that another process builds, that an engine is replaced and why.

        Raises:
            BackendError: the folder cannot be written or others can write to it, or there is no space. Nothing of
                the new engine is left behind.
            Exception: what `build` and `prove` raise.
        """
        self._create_folder()
        with locked(self.folder, f"building an engine in '{self.folder}'", say, error=BackendError):
            self._remove_leftovers()
            try:
                stored = self.find(facts)
            except BackendError as reason:
                say(f"{reason}; building it now")
                stored = None
            if stored is None:
                self._build(facts, build, prove)
                stored = self.find(facts)
        if stored is None:
            raise BackendError(f"the engine that was just written to '{self.folder}' is gone; {_AGAIN}")
        return stored

    def discard(self, facts: Mapping[str, str]) -> None:
        """Remove the engine for these facts, if it exists.

        Raises:
            BackendError: the folder cannot be written.
        """
        self._create_folder()
        with locked(self.folder, f"removing an engine of '{self.folder}'", lambda line: None, error=BackendError):
            (self.folder / f"{engine_key(facts)}.json").unlink(missing_ok=True)
            self._remove_leftovers()

    def _build(self, facts: Mapping[str, str], build: Callable[[], bytes], prove: Callable[[bytes], bytes]) -> None:
        begin = time.time()
        plan = build()
        golden = prove(plan)
        self._write(facts, plan, golden, {"unix_time": round(begin), "seconds": round(time.time() - begin, 1)})

    def _create_folder(self) -> None:
        try:
            # Not left to the umask: many systems let the group write.
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise BackendError(f"cannot make the folder of engines '{self.folder}' ({error.strerror})") from error
        check_folder(self.folder)

    def _remove_leftovers(self) -> None:
        """Files of builds that were killed. Only under the lock: they would belong to a build that runs."""
        for path in self.folder.iterdir():
            orphan = path.suffix in (".plan", ".golden") and not path.with_suffix(".json").exists()
            if orphan or path.suffix == PART_SUFFIX:
                path.unlink(missing_ok=True)

    def _manifest(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            manifest: dict[str, Any] = parse_json(read_trusted(self.folder, name))
            sound = manifest.pop("sha256") == _hash_of(manifest) and manifest["format"] == _FORMAT
        except (TextError, AttributeError, KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise BackendError(f"the manifest '{path}' was edited, damaged, or written by another release; {_AGAIN}")
        return manifest

    def _checked(self, name: str, record: Mapping[str, Any]) -> bytes:
        path = self.folder / name
        try:
            data = read_trusted(self.folder, name)
        except FileNotFoundError:
            raise BackendError(f"'{path}' is missing; {_AGAIN}") from None
        if len(data) != record["bytes"]:
            raise BackendError(f"'{path}' has {len(data)} bytes, its manifest says {record['bytes']}; {_AGAIN}")
        if hashlib.sha256(data).hexdigest() != record["sha256"]:
            raise BackendError(f"the sha256 of '{path}' is not the one of its manifest; {_AGAIN}")
        return data

    def _write(self, facts: Mapping[str, str], plan: bytes, golden: bytes, built: Mapping[str, Any]) -> None:
        key = engine_key(facts)
        manifest = {
            "format": _FORMAT,
            "facts": dict(facts),
            "plan": _record(plan),
            "golden": _record(golden),
            "built": dict(built),
        }
        text = json.dumps({**manifest, "sha256": _hash_of(manifest)}, indent=1)
        paths = [self.folder / f"{key}{suffix}" for suffix in (".json", ".plan", ".golden")]
        try:
            for path in paths:  # the manifest first
                path.unlink(missing_ok=True)
            sync(self.folder)
            for path, data in zip((*paths[1:], paths[0]), (plan, golden, text.encode()), strict=True):
                write_whole(path, data, durable=True, mode=0o644, error=BackendError, advice=_SPACE)
        except BaseException as error:
            for path in paths:
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise BackendError(f"cannot write to '{self.folder}' ({error.strerror}); {_SPACE}") from error
            raise


def _record(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _hash_of(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(manifest), sort_keys=True).encode()).hexdigest()
