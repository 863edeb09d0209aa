"""Converts a checkpoint that needs more than the weights-only reader to safetensors, without trusting it.

The file is unpickled in a process of its own (`restricted_unpickling.py`), which rebuilds tensors and plain containers.
Every other class or function that the pickle names, the metadata of mmcv and numpy for instance, becomes an inert
stand-in: it is never imported and never called. A pickle that names a way to run code is refused.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.errors import CheckpointError
from hrda_core.interop.safe_load import is_dangerous
from hrda_core.whole_files import whole_file

__all__ = ["Conversion", "convert_trusted"]

_TIMEOUT_S = 1800
# Isolated mode leaves out the working directory, which may be where the file was downloaded to; the parent's path says
# where our own packages are.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from hrda_core.interop.restricted_unpickling import main; main(sys.argv[2], sys.argv[3])"
)


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        tensors: number of tensors that were written.
        stand_ins: names that the pickle asked for and that were replaced by stand-ins.
    """

    tensors: int
    stand_ins: tuple[str, ...]


def convert_trusted(source: str | Path, out: str | Path) -> Conversion:
    """Write the weights of a `.pth` file as safetensors, under the same names, without optimizer and metadata.

    Args:
        source: a file that `torch.save` wrote.
        out: the new file, `*.safetensors`; it must not exist.

    Raises:
        CheckpointError: `out` exists, has another suffix or cannot be written, the file asks to run code, or it cannot
            be read.
    """
    file, target = Path(source), Path(out)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"--out '{target}' must end in .safetensors")
    if target.exists():
        raise CheckpointError(f"'{target}' exists; remove it or choose another name")
    if not file.is_file():
        raise CheckpointError(f"checkpoint '{file}' is not a file; give the path of a .pth or .pt file")
    with whole_file(target, error=CheckpointError) as part:
        answer = _run_child(file, part)
        stand_ins = tuple(answer.get("stand_ins", ()))
        code = [name for name in stand_ins if is_dangerous(name)]
        if code:
            raise CheckpointError(
                f"checkpoint '{file}' asks to run '{code[0]}': it holds code, not just weights; "
                f"nothing was run and nothing was written, do not use this file"
            )
        if "error" in answer:
            raise CheckpointError(str(answer["error"]))
        if "unwritten" in answer:
            raise OSError(str(answer["unwritten"]))
    return Conversion(int(answer["tensors"]), stand_ins)


def _run_child(file: Path, part: Path) -> dict[str, Any]:
    command = [sys.executable, "-I", "-c", _BOOT, json.dumps(sys.path), str(file.resolve()), str(part.resolve())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise CheckpointError(f"checkpoint '{file}' could not be converted within {_TIMEOUT_S} s") from None
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise CheckpointError(f"checkpoint '{file}' could not be converted: {last[:160]}") from None
    return answer
