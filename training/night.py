"""`hrda night --watch FOLDER --model LINK`: each finished recording is adapted on, judged and, if better, adopted.

    ln -s hrda_lite models/current                                            # the link that the node loads
    hrda night --watch drives --model models/current --once                   # one pass, as a timer calls it
    hrda night --watch drives --model models/current --reload /segment_node   # goes on until it is stopped

What it did is in LINK.nights: a line of journal.jsonl for each recording, a page for each night, and index.html. It can
be interrupted at any point, also by a power cut; the same command goes on. To go back, move the link.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hrda_core.adaptation.efforts import EFFORTS, Effort, effort_named
from hrda_core.errors import PACKAGES, HrdaError, MissingPackageError, RecipeError, missing_text, shown
from hrda_core.whole_files import write_json

from .arguments import parse_request

__all__ = ["NightRequest", "main"]

_DAY_S = 86400.0
_ROOM = 1 << 30
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class NightRequest:
    """The loop to run. Its attributes are the options of `hrda night`, and their help.

    Attributes:
        watch: folder that finished recordings are put into
        model: link to the bundle to start from; it is moved when a better one is adopted
        once: one pass over what is there, for a timer; without it the folder is looked at until the command is stopped
        reload: full name of the node whose ~/reload is called after a move of the link, such as /segment_node
        store: folder of journal, pages and adopted bundles; default: LINK.nights
        effort: instant, quick, normal or full, as of hrda adapt; default: instant
        topic: camera topics; default: the only one of each recording
        source: labelled images, as of hrda adapt; default: streets
        label_space: label space file, as of hrda adapt
        camera_areas: file that says which pixels of each camera's pictures count, the same as for the node
        held_out: share of a recording, at its end, that is held out for judging
        device: where the network is trained
        threads: CPU threads; 0 = PyTorch's choice
        every_s: seconds between two looks at the folder
        settle_s: a recording with a file that changed less than so many seconds ago is left for later
        keep: number of adopted bundles that stay on disk, with the link's and the one before it
    """

    watch: Path
    model: Path
    once: bool = False
    reload: str = ""
    store: Path | None = None
    effort: Effort = EFFORTS["instant"]
    topic: tuple[str, ...] = ()
    source: str | None = None
    label_space: Path | None = None
    camera_areas: Path | None = None
    held_out: float = 0.25
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    every_s: float = 60.0
    settle_s: float = 10.0
    keep: int = 10

    def __post_init__(self) -> None:
        if self.reload and not self.reload.startswith("/"):
            raise RecipeError(f"--reload is the full name of a node, such as /segment_node, not '{self.reload}'")
        if not 0 < self.held_out <= 0.5:
            raise RecipeError(f"--held_out is a share above 0 and up to 0.5, not {self.held_out}")
        for name in ("every_s", "settle_s", "keep"):
            if getattr(self, name) < 0:
                raise RecipeError(f"--{name} is 0 or more, not {getattr(self, name)}")
        if not max(self.every_s, self.settle_s) <= _DAY_S:
            raise RecipeError(
                f"--every_s and --settle_s are at most {_DAY_S:.0f} seconds, a day, not {self.every_s:g} and "
                f"{self.settle_s:g}"
            )

    @property
    def folder(self) -> Path:
        """The store."""
        return Path(os.path.abspath(self.store or self.model.with_name(self.model.name + ".nights")))

    @property
    def adapt_options(self) -> list[str]:
        """Options that go to `hrda adapt`."""
        values = {"effort": self.effort.name, "held_out": self.held_out, "device": self.device, "threads": self.threads}
        if self.source is not None:
            values["source"] = self.source
        for name in ("label_space", "camera_areas"):
            if (path := getattr(self, name)) is not None:
                values[name] = str(path)
        words = [word for name, value in values.items() for word in (f"--{name}", str(value))]
        return [*words, *(["--topic", *self.topic] if self.topic else [])]


def main(argv: list[str]) -> int:
    """Run one pass, or passes until a signal comes. Return the exit code."""
    request, json = parse_request(NightRequest, argv, verb="night", about=__doc__, read={"effort": effort_named})
    from hrda_core.night.night import Night

    from .night_processes import adapt_by_process, reload_by_process

    signal.signal(signal.SIGTERM, _interrupt)
    check, link = partial(_check, request), Path(os.path.abspath(request.model))  # not resolved: it is the link itself
    night = Night(
        watch=Path(os.path.abspath(request.watch)),  # a name with - first must not become an option of hrda adapt
        link=link,
        folder=request.folder,
        adapt=partial(adapt_by_process, request.adapt_options, check),
        reload=partial(reload_by_process, request.reload, link) if request.reload else None,
        check=check,
        settle_s=request.settle_s,
        keep=request.keep,
        say=_say,
    )
    entries = [entry.to_dict() for entry in night.one_pass()]
    if json:
        write_json(json, {"store": str(request.folder), "entries": entries})
    if request.once:
        _say(f"{len(entries)} recordings done; {request.folder / 'index.html'}" if entries else "nothing new")
        return 0
    _go_on(night.one_pass, request.every_s)
    return 0


def _go_on(one_pass: Callable[[], Any], every_s: float) -> None:
    """Pass after pass. What stands in the way, such as a full disk, may go away by itself, and is said once."""
    told = ""
    while True:
        time.sleep(every_s)
        try:
            one_pass()
            told = ""
        except HrdaError as error:
            if str(error) != told:
                told = str(error)
                _say(f"waiting: {told}")


def _check(request: NightRequest) -> None:
    """Refuse where something else than a recording stands in the way, which must not count against a recording."""
    from hrda_core.camera_areas import CameraAreas
    from hrda_core.data.packs.pack_folders import DEFAULT_PACK, find_source
    from hrda_core.inference.bundle import Bundle
    from hrda_core.label_files import defines_classes
    from hrda_core.night.link import goal_of

    for name in (name for name, (_, extra) in PACKAGES.items() if extra == "train"):
        if importlib.util.find_spec(name) is None:
            raise MissingPackageError(
                missing_text(PACKAGES[name][0], "train", ImportError(f"No module named '{name}'"))
            )
    given = Bundle.open(goal_of(request.model))
    if not given.file(_WEIGHTS).is_file():
        raise RecipeError(f"model '{given.path}' has no {_WEIGHTS}, so it cannot be adapted; give one that has")
    find_source(DEFAULT_PACK if request.source is None else request.source)
    if request.camera_areas is not None:
        CameraAreas.read(request.camera_areas)
    if request.label_space is not None:
        defines_classes(request.label_space)
    there = next(path for path in (request.folder, *request.folder.resolve().parents) if path.exists())
    if (free := shutil.disk_usage(there).free) < _ROOM:
        raise RecipeError(f"'{there}' has {free >> 20} MiB free, and an adaptation may need {_ROOM >> 20}; make room")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(shown(text, 10_000), file=sys.stderr, flush=True)  # it holds names of recordings
