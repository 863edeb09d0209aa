"""The real Python bindings of TensorRT and of CUDA, imported without their libraries, and what is in them.

The bindings are linked against libnvinfer and its siblings. An empty library under each of their names satisfies the
loader: every class, method and enum member can then be read, and nothing can be run. Each version lives in a process
of its own, since the libraries of two would meet in one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tensorrt_wheels import BINDINGS, CUDA_PATHFINDER, CUDA_PYTHON, UnavailableError, unpacked

__all__ = ["Surface", "compile_stub", "cuda_surface", "put", "run_child", "tensorrt_folder", "tensorrt_surface"]

CHILD_TIMEOUT_S = 60

LIBRARIES = {
    8: ("libnvinfer.so.8", "libnvonnxparser.so.8", "libnvparsers.so.8", "libnvinfer_plugin.so.8"),
    10: ("libnvinfer.so.10", "libnvonnxparser.so.10", "libnvinfer_plugin.so.10"),
    11: ("libnvinfer.so.11", "libnvonnxparser.so.11", "libnvinfer_plugin.so.11"),
}

PLUGIN_SYMBOLS = ("initLibNvInferPlugins",)
SYMBOLS = (
    *PLUGIN_SYMBOLS,
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    # C++ names that 8.6 wants of libnvparsers.
    "_ZN11nvuffparser15createUffParserEv",
    "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
    "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv",
)
"""Every function that a version of the bindings takes from these libraries; here each one returns null."""


@dataclass(frozen=True)
class Surface:
    """What a module offers.

    Attributes:
        names: attributes of the module that are not classes.
        classes: attributes by class. The value of an attribute is the class that it is or returns, where the bindings'
            docstrings say so, else "".
        arguments: smallest and largest number of arguments of `function`, `Class` and `Class.method`, where known.
    """

    names: frozenset[str]
    classes: Mapping[str, Mapping[str, str]]
    arguments: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def has(self, owner: str, name: str) -> bool:
        """Whether `owner`, a class or "" for the module, has an attribute."""
        return name in self.classes[owner] if owner else name in self.names or name in self.classes


def tensorrt_surface(version: str) -> Surface:
    """Surface of one version of the TensorRT bindings.

    Raises:
        UnavailableError: no wheel, no C compiler, or the bindings do not import on this machine.
    """
    surface = _surface(["tensorrt"], [tensorrt_folder(version)])
    # The only signature that the code relies on and that names a C++ class instead.
    parser = {**surface.classes["OnnxParser"], "get_error": "ParserError"}
    return replace(surface, classes={**surface.classes, "OnnxParser": parser})


def cuda_surface(version: str, part: str) -> Surface:
    """Surface of the `runtime` or the `driver` part of one version of cuda-python.

    Raises:
        UnavailableError: no wheel, or it does not import on this machine.
    """
    old = {"runtime": "cuda.cudart", "driver": "cuda.cuda"}[part]
    return _surface([f"cuda.bindings.{part}", old], [unpacked(CUDA_PYTHON[version]), unpacked(CUDA_PATHFINDER)])


def tensorrt_folder(version: str) -> Path:
    """Folder in which `import tensorrt` finds this version of the bindings and empty libraries."""
    wheel = unpacked(BINDINGS[version])
    folder = wheel / "with_stubs"
    if not folder.is_dir():
        part = wheel / f"with_stubs.{os.getpid()}.part"
        shutil.copytree(wheel / "tensorrt_bindings", part / "tensorrt", dirs_exist_ok=True)
        stub = part / "stub.so"
        compile_stub(stub, SYMBOLS)
        for library in LIBRARIES[int(version.split(".")[0])]:
            (part / "tensorrt" / library).symlink_to("../stub.so")  # the bindings look beside themselves first
        put(part, folder)
    return folder


def compile_stub(file: Path, symbols: tuple[str, ...]) -> None:
    """Write a shared library whose functions return null.

    Raises:
        UnavailableError: no C compiler here, or it failed.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise UnavailableError("there is no C compiler (gcc or cc) to make the empty libraries with")
    source = "".join(f"void *{name}(void) {{ return 0; }}\n" for name in symbols)
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-o", str(file), "-"]
    done = subprocess.run(command, input=source, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S)
    if done.returncode != 0:
        raise UnavailableError(f"'{compiler}' cannot make an empty library: {done.stderr.strip()[-300:]}")


def run_child(arguments: list[str], folders: list[Path], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run this Python with `folders` first on its path, without the machine's own libraries of that kind."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    environment |= {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)


def _surface(modules: list[str], folders: list[Path]) -> Surface:
    child = Path(__file__).with_name("tensorrt_surface_child.py")
    try:
        done = run_child([str(child), *modules], folders, CHILD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"importing {modules[0]} took more than {CHILD_TIMEOUT_S} s") from error
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UnavailableError(f"{modules[0]} does not import without its libraries here: {reason}")
    found = json.loads(done.stdout)
    arguments = {name: (counts[0], counts[1]) for name, counts in found["arguments"].items() if counts}
    return Surface(frozenset(found["names"]), found["classes"], arguments)


def put(part: Path, folder: Path) -> None:
    """Move a finished folder to its place; another process may have been faster."""
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)
