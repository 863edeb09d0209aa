"""Kills writers at every single change that they make to the disk; run by test_whole_files.py and others.

python killed_writes.py CASE FOLDER     prints JSON: the number of kills, and what was found broken after which
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hrda_core import whole_files
from hrda_core.whole_files import replaced_folder, write_whole

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "ctypes.dlsym"}
"""Events of Python's audit hook before a change, besides "open" for writing; `dlsym` comes before a swap of names."""
MARKER = "marker.json"


class Case:
    """What is written (`act`), into what (`begin`), and what must be true at every moment (`check`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None:
        write_whole(self.folder / "file", "old")

    def act(self) -> None:
        write_whole(self.folder / "file", "new", durable=True)

    def check(self) -> str:
        """Which of the two is there, `old` or `new`."""
        return (self.folder / "file").read_text()

    def left(self) -> list[str]:
        """What a kill has left and the next call has not removed."""
        return [path.name for path in self.folder.iterdir() if path.name in ("out.part", "bundle.part", "tiny.part")]


class Folder(Case):
    """A folder of two files and a marker."""

    def begin(self) -> None:
        self.write("old")

    def act(self) -> None:
        self.write("new")

    def write(self, text: str) -> None:
        with replaced_folder(self.folder / "out", MARKER) as work:
            for name in ("a", "sub/b", MARKER):
                (work / name).parent.mkdir(parents=True, exist_ok=True)
                (work / name).write_text(text)

    def check(self) -> str:
        found = sorted(str(path.relative_to(self.folder / "out")) for path in (self.folder / "out").rglob("*"))
        assert found == ["a", MARKER, "sub", "sub/b"], found
        texts = {(self.folder / "out" / name).read_text() for name in ("a", "sub/b", MARKER)}
        assert len(texts) == 1, texts
        return texts.pop()


class FolderWithoutSwap(Folder):
    """The same where two names cannot be swapped: a kill may leave it absent until the next call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        whole_files._swap = lambda one, other: False  # type: ignore[assignment]

    def check(self) -> str:
        with suppress(KeyboardInterrupt), replaced_folder(self.folder / "out", MARKER):
            raise KeyboardInterrupt
        return super().check()


class ChangedBundle(Case):
    """A bundle whose model card changes while one graph goes and another comes."""

    def begin(self) -> None:
        from tiny_bundle import write_tiny_bundle

        from hrda_core.inference.bundle import MANIFEST_NAME

        with replaced_folder(self.folder / "bundle", MANIFEST_NAME) as work:
            write_tiny_bundle(work)
            self._change(work, "old", "old.onnx", {})

    def act(self) -> None:
        self._change(self.folder / "bundle", "new", "new.onnx", {"graphs/old.onnx": None})

    def _change(self, bundle: Path, card: str, graph: str, gone: dict[str, None]) -> None:
        from hrda_core.inference.bundle import change_bundle

        static = {"plan": "tiles", "file": f"graphs/{graph}", "size": [64, 64]}
        files = {"MODEL_CARD.md": card.encode(), f"graphs/{graph}": card.encode(), **gone}
        change_bundle(bundle, lambda now: ({**now.manifest, "static_graphs": [static]}, files))

    def check(self) -> str:
        from hrda_core.inference import Bundle

        opened = Bundle.open(self.folder / "bundle")
        return Path(opened.static_graphs[0].file).stem


class CopiedModel(Case):
    """The copy of a bundle that came with the package, in the home of the user's models."""

    def begin(self) -> None:
        from tiny_bundle import write_tiny_bundle

        package = self.folder / "hrda_ros"
        write_tiny_bundle(package / "models" / "tiny")
        (package / "package.xml").write_text("<package><name>hrda_ros</name></package>")
        os.environ["HRDA_MODELS"] = str(self.folder)

    def act(self) -> None:
        from hrda_core.inference.model_folders import changeable

        changeable(self.folder / "hrda_ros" / "models" / "tiny")

    def check(self) -> str:
        from hrda_core.inference import Bundle

        copy = self.folder / "tiny"
        return Bundle.open(copy).name.replace("tiny", "new") if copy.exists() else "old"


class RecordedScores(Case):
    """`hrda evaluate --record`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import cv2
        import numpy as np
        import onnxruntime  # noqa: F401  (loaded once, not after every fork)

        import hrda_training.evaluate  # noqa: F401

        for kind, pixels in (("images", np.zeros((64, 64, 3), np.uint8)), ("labels", np.zeros((64, 64), np.uint8))):
            (folder / kind).mkdir()
            cv2.imwrite(str(folder / kind / "a.png"), pixels)

    def begin(self) -> None:
        from tiny_bundle import write_tiny_bundle

        from hrda_core.inference.bundle import MANIFEST_NAME

        with replaced_folder(self.folder / "bundle", MANIFEST_NAME) as work:
            write_tiny_bundle(work)
            (work / "MODEL_CARD.md").write_text("not yet scored")

    def act(self) -> None:
        from hrda_training.evaluate import main

        data = ["--images", str(self.folder / "images"), "--labels", str(self.folder / "labels")]
        main(["--bundle", str(self.folder / "bundle"), *data, "--threads", "1", "--record", "dusk"])

    def check(self) -> str:
        from hrda_core.inference import Bundle

        scores = Bundle.open(self.folder / "bundle").manifest["provenance"].get("scores", {})
        return "new" if "dusk" in scores else "old"


class BuiltEngine(Case):
    """An engine of the cache, which is three files."""

    facts: ClassVar = {"bundle": "b", "graph": "g", "gpu": "none"}
    plan, golden = random.Random(0).randbytes(3 << 20), random.Random(1).randbytes(1 << 20)

    def __init__(self, folder: Path) -> None:
        from hrda_core.inference.tensorrt.engine_cache import EngineCache

        super().__init__(folder)
        self.cache = EngineCache(folder / "engines")

    def begin(self) -> None:
        """There is none."""

    def act(self) -> None:
        self.cache.get_or_build(self.facts, lambda: self.plan, lambda plan: self.golden)

    def check(self) -> str:
        engine = self.cache.find(self.facts)
        assert engine is None or (engine.plan, engine.golden) == (self.plan, self.golden)
        return "old" if engine is None else "new"

    def left(self) -> list[str]:
        return [path.name for path in self.cache.folder.iterdir() if path.suffix not in (".plan", ".golden", ".json")]


class Night(Case):
    """A turn of `hrda night` that adopts; the link leads to a whole bundle at every moment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        import jinja2  # noqa: F401  (loaded once, not after every fork)
        from tiny_bundle import write_tiny_bundle

        import hrda_core.night.night  # noqa: F401

        self.bundle = write_tiny_bundle(folder / "images")  # a name that is not cleared

    def begin(self) -> None:
        from night_world import World

        self.world = World(self.folder / "world", self.bundle)
        self.world.record("drive", "instant")

    def act(self) -> None:
        self.world.night().one_pass()

    def check(self) -> str:
        from hrda_core.inference import Bundle

        Bundle.open(self.world.link)
        new = self.world.goal != "first"
        if new and not (self.world.store / "turn.json").exists():
            assert (self.world.store / "journal.jsonl").read_text().count("\n") == 1
            assert not (self.world.store / "work").exists()
        return "new" if new else "old"


CASES = {
    "file": Case,
    "folder": Folder,
    "folder without swap": FolderWithoutSwap,
    "bundle": ChangedBundle,
    "copy": CopiedModel,
    "record": RecordedScores,
    "engine": BuiltEngine,
    "night": Night,
}


def _in_child(act: Callable[[], None], folder: Path, kill_at: int) -> bool:
    """Carry out in a process that is killed before its change number `kill_at`; returns whether it lived to the end."""
    if not (child := os.fork()):
        status = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.addaudithook(_killer(folder, kill_at))
            act()
            status = 0
        finally:
            os._exit(status)
    ended = os.waitpid(child, 0)[1]
    assert ended == 0 or os.WIFSIGNALED(ended), f"the writer failed with status {ended}"
    return ended == 0


def _killer(folder: Path, kill_at: int) -> Callable[[str, tuple[Any, ...]], None]:
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in CHANGES):
            return
        path = str(arguments[0])
        if event != "ctypes.dlsym" and path.startswith("/") and not path.startswith(str(folder)):
            return  # caches of Python and the like
        seen += 1
        if seen == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def main(name: str, folder: Path) -> None:
    case, broken, found = CASES[name](folder), [], []
    for kill_at in range(1, 1000):
        for left in folder.iterdir():
            if left.name not in ("images", "labels"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        case.begin()
        alive = _in_child(case.act, folder, kill_at)
        try:
            found.append(case.check())
            _in_child(case.act, folder, 0)  # what a kill has left does not stand in the way
            assert case.check() == "new"
            assert not case.left(), case.left()
        except Exception as error:
            broken.append(f"kill {kill_at}: {error!r}")
        if alive:
            break
    print(json.dumps({"kills": kill_at - 1, "found": found, "broken": broken}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
