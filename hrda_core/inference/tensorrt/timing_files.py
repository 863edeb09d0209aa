"""Keeps timings of kernels for the next build, in one file for each kind of machine, whatever the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt.builder import TimingCache
from hrda_core.inference.tensorrt.engine_key import engine_key
from hrda_core.inference.trusted_files import read_trusted
from hrda_core.whole_files import cache_folder, write_whole

__all__ = ["timing_cache"]

_HASH_BYTES = 32


def timing_cache(machine: Mapping[str, str], say: Callable[[str], None]) -> TimingCache:
    """Return the file of timings for a machine (see `describe_machine`), below the cache folder.

    A file that is absent, damaged or open to others counts as empty; `say` reports one that cannot be written.
    """
    folder, name = cache_folder() / "tensorrt_timing", f"{engine_key(machine)}.timing"

    def read() -> bytes:
        try:
            data = read_trusted(folder, name)
        except FileNotFoundError:
            return b""
        except BackendError as error:
            say(f"timings of earlier engine builds are not used: {error}")
            return b""
        timings = data[_HASH_BYTES:]
        return timings if hashlib.sha256(timings).digest() == data[:_HASH_BYTES] else b""

    def write(timings: bytes) -> None:
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            content = hashlib.sha256(timings).digest() + timings
            write_whole(folder / name, content, durable=True, mode=0o644, error=BackendError)
        except (OSError, BackendError) as error:
            say(f"timings for later engine builds are not kept: {error}")

    return TimingCache(read, write)
