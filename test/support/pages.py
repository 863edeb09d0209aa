"""The Markdown pages of the tree: their links, headings and fenced blocks, and what the mark of a block says.

A fence opens with ```` ```LANGUAGE ````, and for `sh` and `python` with marks behind it:

- no mark: the block is run as written, in the order of its page;
- `needs=NAME`: it is not run, for the reason that `NEEDS` gives;
- `shortened="OPTIONS"`: it is run with these options behind every `hrda` command, so that it takes seconds.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDS = {
    "ros": "a ROS distribution",
    "gpu": "an NVIDIA GPU",
    "data": "a data set, a recording or a checkpoint that is not in the tree",
    "hours": "minutes to hours of computing",
    "network": "the network",
    "systemd": "root on a machine that runs systemd",
    "person": "a person who looks at a page and answers",
    "suite": "to be left alone: they are the tests themselves, or set them up",
}
"""Why a block is not run here."""

RUNNABLE = ("sh", "python")
LANGUAGES = (*RUNNABLE, "text", "yaml")


@dataclass(frozen=True)
class Block:
    """A fenced block: `line` is the number of its fence, `text` what is between the fences."""

    page: str
    line: int
    language: str
    marks: dict[str, str]
    text: str

    @property
    def runs(self) -> bool:
        """Whether it can run on a machine without a GPU, ROS and data sets."""
        return self.language in RUNNABLE and "needs" not in self.marks

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def script(self) -> str:
        """The block for bash, with the options of `shortened` behind every `hrda` command."""
        if self.language == "python":
            return f"python - <<'END_OF_PYTHON'\n{self.text}END_OF_PYTHON\n"
        extra = self.marks.get("shortened", "")
        lines = [f"{command} {extra}" if command.startswith("hrda ") else command for command in self.commands()]
        return "\n".join(lines) + "\n" if extra else self.text

    def commands(self) -> list[str]:
        """Its commands, one a string: continued lines are joined, comments at their end left out."""
        joined = re.sub(r"\\\n\s*", "", self.text) if self.language == "sh" else ""
        lines = [re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines()]
        return [part.strip() for line in lines if line for part in line.split(" && ")]


def page_files(repository: Path) -> list[Path]:
    """Every page that a reader may open: README, docs, notes for contributors, model cards."""
    top = [repository / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    cards = sorted((repository / "models").glob("*/MODEL_CARD.md"))
    return [*top, *sorted((repository / "docs").rglob("*.md")), *cards]


def blocks(path: Path, name: str) -> Iterator[Block]:
    """The fenced blocks of a page in their order."""
    opened: tuple[int, str] | None = None
    inside: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            inside.append(line)
        elif opened is None:
            opened, inside = (number, line[3:].strip()), []
        else:
            language, *marks = shlex.split(opened[1]) or [""]
            pairs = dict(mark.partition("=")[::2] for mark in marks)
            yield Block(name, opened[0], language, pairs, "".join(f"{text}\n" for text in inside))
            opened = None
    assert opened is None, f"{name}:{opened}: a fence that does not close"


def blocks_of(repository: Path) -> list[Block]:
    """The blocks of all pages."""
    return [block for path in page_files(repository) for block in blocks(path, str(path.relative_to(repository)))]


def prose(path: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(path: Path) -> list[str]:
    """Targets of the links and pictures of a page that lead into the tree."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(path: Path) -> set[str]:
    """What can follow `#` in a link to the page: its headings as GitHub spells them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", prose(path), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found
