"""No line of ours hands what is read from disk to something that runs it (P5)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FOLDERS = ("hrda_core", "hrda_ros", "training", "launch", "demo", "tools")
RUN_CODE = {
    "eval", "exec", "compile", "__import__",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "joblib.load", "shelve.open", "marshal.loads",
    "marshal.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "runpy.run_path",
    "torch.jit.load", "torch.hub.load", "torch.ops.load_library", "ctypes.CDLL", "ctypes.cdll.LoadLibrary",
    "importlib.util.spec_from_file_location", "ort.SessionOptions.register_custom_ops_library",
}  # fmt: skip
UNSAFE_TORCH = "torch.load without weights_only=True"
REASONS = {
    ("hrda_core/interop/restricted_unpickling.py", "pickle.Unpickler"): "its find_class gives stand-ins only",
    ("hrda_core/interop/restricted_unpickling.py", UNSAFE_TORCH): "by that very unpickler",
    ("hrda_core/nvidia_driver.py", "ctypes.CDLL"): "the driver of the system, by a fixed name",
}
"""(file, call) to why it runs no code of a file that somebody brings."""


WORDS = re.compile(
    r"shell=|\b(?:np|numpy)\.load\b|torch\.load|pickle\.|"
    + "|".join(re.escape(call) if "." in call else rf"(?<![.\w]){call}\(" for call in RUN_CODE)
)
"""What a text has that is worth parsing."""


def calls_of(tree: ast.AST) -> list[tuple[str, ast.Call | ast.ClassDef]]:
    """Dotted names of what is called or derived from."""
    found: list[tuple[str, ast.Call | ast.ClassDef]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found.append((ast.unparse(node.func), node))
        elif isinstance(node, ast.ClassDef):
            found += [(ast.unparse(base), node) for base in node.bases]
    return found


def dangers_of(text: str) -> list[str]:
    """Calls in a source text that would run code of a file."""
    dangers = []
    for name, node in calls_of(ast.parse(text)) if WORDS.search(text) else []:
        options = {key.arg: ast.unparse(key.value) for key in getattr(node, "keywords", [])}
        if name in RUN_CODE and ast.unparse(node) != "ctypes.CDLL(None)":  # that is the process itself
            dangers.append(name)
        if name == "torch.load" and options.get("weights_only") != "True":
            dangers.append(UNSAFE_TORCH)
        if name in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
            dangers.append("np.load with allow_pickle")
        if options.get("shell", "False") != "False":
            dangers.append("a shell")
    return dangers


def test_p5_nothing_of_ours_runs_what_it_reads(repository: Path) -> None:
    found = {
        (str(file.relative_to(repository)), danger)
        for folder in FOLDERS
        for file in (repository / folder).rglob("*.py")
        for danger in dangers_of(file.read_text(encoding="utf-8"))
    }
    assert found == set(REASONS)


@pytest.mark.parametrize(
    "line",
    ["pickle.loads(data)", "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text, Loader=L)",
     "np.load(path, allow_pickle=True)", "eval(text)", "ctypes.CDLL(path)",
     "subprocess.run(text, shell=True)", "class U(pickle.Unpickler): pass"],
)  # fmt: skip
def test_p5_such_a_line_would_be_found(line: str) -> None:
    assert dangers_of(line)
