"""The TensorRT-RTX compiler without a GPU and without a driver: does a graph parse and compile?

TensorRT-RTX builds engines on the CPU by design. Its builder and ONNX parser come in a wheel that needs a driver to be
imported, so the two libraries are used directly: the bindings of TensorRT 11.4 find them under the names that they look
for, beside an empty plugin library. That these bindings fit is a coincidence of two versions, both pinned. Hence the
rule: whatever goes wrong before the compiler has spoken is `UnavailableError`, which is never a pass and never a
verdict on the graph.

The graph goes through the project's own `build_plan`, in a process of its own: a compiler may crash or hang.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tensorrt_stubs import PLUGIN_SYMBOLS, compile_stub, put, run_child
from tensorrt_wheels import RTX, RTX_BINDINGS, UnavailableError, unpacked

__all__ = ["Compiled", "RefusedError", "compile_graph", "compiler_folder"]

REPOSITORY = Path(__file__).resolve().parents[2]

CHILD = Path(__file__).with_name("tensorrt_rtx_child.py")

TIME_LIMIT_S = 300


class RefusedError(Exception):
    """The parser or the compiler does not take this graph; the text is its own."""


@dataclass(frozen=True)
class Compiled:
    """A graph that compiled.

    Attributes:
        plan_bytes: size of the engine.
        seconds: parsing and compiling.
        peak_mb: memory of the whole process.
    """

    plan_bytes: int
    seconds: float
    peak_mb: int


def compile_graph(graph: Path, *, size: tuple[int, int] | None = None, time_limit_s: float = TIME_LIMIT_S) -> Compiled:
    """Parse and compile an ONNX file; the engine itself is thrown away, since it is for another family of GPUs.

    Args:
        size: height and width, for a graph that takes any.

    Raises:
        RefusedError: TensorRT does not take the graph.
        UnavailableError: the compiler could not be had or loaded, crashed, or ran out of time.
        RuntimeError: the project's builder failed in another way.
    """
    arguments = [str(CHILD), str(graph.absolute()), *(map(str, size) if size else ())]
    try:
        done = run_child(arguments, [compiler_folder(), REPOSITORY], time_limit_s)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"TensorRT-RTX took more than {time_limit_s:g} s for '{graph.name}'") from error
    return _verdict(done, graph)


def compiler_folder() -> Path:
    """Folder in which `import tensorrt` finds the bindings and, under TensorRT's names, the TensorRT-RTX libraries.

    Raises:
        UnavailableError: no wheels, or no C compiler.
    """
    libraries, bindings = unpacked(RTX), unpacked(RTX_BINDINGS)
    folder = libraries / "with_bindings"
    if not folder.is_dir():
        part = libraries / f"with_bindings.{os.getpid()}.part"
        package = part / "tensorrt"
        shutil.copytree(bindings / "tensorrt_bindings", package, dirs_exist_ok=True)
        found = {name: next(libraries.glob(f"*/{name}")) for name in RTX.suffixes}
        for name, alias in zip(RTX.suffixes, ("libnvinfer.so.11", "libnvonnxparser.so.11"), strict=True):
            (package / alias).symlink_to(os.path.relpath(found[name], folder / "tensorrt"))
        compile_stub(package / "libnvinfer_plugin.so.11", PLUGIN_SYMBOLS)
        put(part, folder)
    return folder


def _verdict(done: subprocess.CompletedProcess[str], graph: Path) -> Compiled:
    """From what the child printed: `loaded`, then one of `built`, `refused` and `unusable`."""
    words = ("loaded ", "built ", "refused ", "unusable ")
    events = dict(line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(words))
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise UnavailableError(f"TensorRT-RTX crashed ({name}) with '{graph.name}': {last}")
    if "loaded" not in events:
        raise UnavailableError(f"TensorRT-RTX does not load here: {last}")
    if "unusable" in events:
        raise UnavailableError(f"TensorRT-RTX does not work here: {json.loads(events['unusable'])}")
    if "refused" in events:
        raise RefusedError(json.loads(events["refused"]))
    if done.returncode != 0 or "built" not in events:
        raise RuntimeError(
            f"the builder failed on '{graph.name}' with status {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return Compiled(**json.loads(events["built"]))
