"""Write test/golden/*.npz from ../shared/golden: `python test/support/make_reduced_golden.py [--shared ../shared]`.

Which arrays are subsampled and how stands in `golden.SAMPLING`; inputs that float16 holds exactly are stored so. Also
writes test/golden/weights_manifest.json: name, shape and sha256 of every tensor of the golden weights.
The files are byte-reproducible: running this again on the same data changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from golden import FOLDER, SAMPLING, SHARED_ARRAYS, Golden, golden_full

INPUTS = ("image", "seg_weight", "weight")
BUDGET_BYTES = 8_000_000
EPOCH = (1980, 1, 1, 0, 0, 0)


def main() -> int:
    """Reduce every file of `SAMPLING` and print the sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=FOLDER.parents[2] / "shared")
    shared: Path = parser.parse_args().shared
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SAMPLING:
        path = FOLDER / f"{name}.npz"
        _write_npz(path, _reduce(shared, name))
        print(f"{path.stat().st_size / 1e3:8.0f} kB  {path.name}")
    scalars = json.loads((shared / "golden" / "scalars.json").read_text("utf-8"))
    (FOLDER / "scalars.json").write_text(json.dumps(scalars, separators=(",", ":")) + "\n", encoding="utf-8")
    _write_weights_manifest(shared / "golden" / "hrda_mitb0_weights.safetensors", FOLDER / "weights_manifest.json")
    total = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{total / 1e3:8.0f} kB  in all, of {BUDGET_BYTES / 1e3:.0f}")
    return 0 if total <= BUDGET_BYTES else 1


def _reduce(shared: Path, name: str) -> dict[str, np.ndarray]:
    full = golden_full(shared, name)
    other, elsewhere = SHARED_ARRAYS.get(name, ("", ()))
    if other:
        stored = golden_full(shared, other)
        different = [array for array in elsewhere if not np.array_equal(full[array], stored[array])]
        if different:
            raise SystemExit(f"{name} and {other} differ in {different}")
    grid = Golden(full, SAMPLING[name])
    return {array: _smallest(array, grid.sample(array, full[array])) for array in full if array not in elsewhere}


def _smallest(name: str, values: np.ndarray) -> np.ndarray:
    if name not in INPUTS:
        return values
    half = values.astype(np.float16)
    if not np.array_equal(half.astype(values.dtype), values):
        raise SystemExit(f"float16 does not hold '{name}' exactly")
    return half


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As `np.savez_compressed`, with constant time stamps."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(values).reshape(values.shape))
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def _write_weights_manifest(weights: Path, path: Path) -> None:
    from safetensors.numpy import load_file

    lines = []
    for name, values in sorted(load_file(weights).items()):
        # The file holds the BatchNorm counters, which are scalars, with shape (1,).
        shape = [] if name.endswith("num_batches_tracked") else list(values.shape)
        digest = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
        lines.append(f"{json.dumps(name)}: {json.dumps([shape, values.dtype.name, digest])}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
