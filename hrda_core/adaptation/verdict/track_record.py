"""How often the verdict was right on the bench (benchmarks/verdict.py): the one place that keeps these figures.

`track_record.json` lies beside this file and is written by the bench alone. It holds a hash of the rules that it was
measured with; a test compares it, so that a changed rule without a new bench is noticed.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrda_core.whole_files import read_json, write_json

__all__ = ["PATH", "TrackRecord", "read_track_record", "rules_hash", "write_track_record"]

PATH = Path(__file__).with_name("track_record.json")

_RULES = ("bootstrap.py", "judgement.py", "measures.py", "verdict.py")
"""The modules that decide. Their sentences may change, not what they compute."""


@dataclass(frozen=True)
class TrackRecord:
    """Figures of the half of the bench that no rule was fitted to. A case is a given model, a candidate and a drive.

    Attributes:
        rules: hash of the rules that they were measured with, see `rules_hash`.
        cases: all cases.
        adopted_better: adopted, and better by labels beyond the spread.
        adopted_equal: adopted, and no difference by labels beyond the spread.
        adopted_worse: adopted, and worse by labels beyond the spread: the verdict was wrong.
        kept_better: not adopted although better by labels.
    """

    rules: str
    cases: int
    adopted_better: int
    adopted_equal: int
    adopted_worse: int
    kept_better: int

    @property
    def adopted(self) -> int:
        """Number of cases in which a candidate was adopted."""
        return self.adopted_better + self.adopted_equal + self.adopted_worse

    def sentence(self, choice: str) -> str:
        """Say how sure the verdict is of its choice.

        Args:
            choice: `given`, or a candidate.
        """
        better = self.adopted_better + self.kept_better
        if choice == "given":
            return (
                f"The verdict is not sure that a candidate is better, so the given model stays; on its bench it missed "
                f"{self.kept_better} of {better} better candidates. 'hrda compare', or the same command with --ask, "
                f"decides by a person's eyes"
            )
        return (
            f"Of {self.adopted} candidates that it adopted on its bench, {self.adopted_worse} were worse by labels, "
            f"{self.adopted_better} better and {self.adopted_equal} no different"
        )


def read_track_record() -> TrackRecord:
    """Read the figures that came with the package."""
    values: Any = read_json(PATH)
    return TrackRecord(**values)


def write_track_record(record: TrackRecord, path: Path = PATH) -> None:
    """Write the figures."""
    write_json(path, asdict(record))


def rules_hash() -> str:
    """Hash what the deciding modules compute, 16 hexadecimal digits; comments, docstrings and texts do not count."""
    digest = hashlib.sha256()
    for name in _RULES:
        tree = ast.parse(PATH.with_name(name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node.value = ""
        digest.update("\n".join(_lines(tree)).encode())
    return digest.hexdigest()[:16]


def _lines(tree: ast.AST) -> list[str]:
    """One line for each node in order: dumps differ between releases of Python, these do not."""
    found = []
    for node in ast.walk(tree):
        text = type(node).__name__
        if isinstance(node, ast.Constant):
            text += repr(node.value)
        elif isinstance(node, ast.Name):
            text += node.id
        elif isinstance(node, ast.Attribute):
            text += node.attr
        elif isinstance(node, ast.FunctionDef):
            text += node.name
        found.append(text)
    return found
