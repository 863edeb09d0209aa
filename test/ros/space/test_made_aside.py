"""What takes long is made in a thread, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from hrda_core.errors import HrdaError, ImageError
from hrda_ros.space import made_aside
from hrda_ros.space.made_aside import MadeAside


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What is made waits for it, and no mask waits long."""
    monkeypatch.setattr(made_aside, "_PATIENCE_S", 0.01)
    opened = threading.Event()
    yield opened
    opened.set()


def made_behind(gate: threading.Event, thing: str) -> Callable[[], str]:
    def make() -> str:
        assert gate.wait(30)
        return thing

    return make


def wait_for_the_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "hrda-made-aside":
            thread.join()


def test_what_takes_long_holds_up_no_caller_and_is_there_later(gate: threading.Event) -> None:
    things = MadeAside[str]("the view")
    for wanted in ("a", "a", "b"):  # another one is not begun meanwhile
        with pytest.raises(HrdaError, match="the view is still being made"):
            things.get(wanted, made_behind(gate, wanted))
    assert [thread.name for thread in threading.enumerate()].count("hrda-made-aside") == 1
    gate.set()
    wait_for_the_thread()
    assert things.get("a", lambda: "made again") == "a"


def test_what_is_quick_is_there_at_once_and_another_one_takes_its_place() -> None:
    things = MadeAside[str]("the view")
    assert [things.get(wanted, lambda wanted=wanted: wanted.upper()) for wanted in "aab"] == ["A", "A", "B"]


def test_what_is_refused_is_not_tried_again_and_what_failed_is() -> None:
    things, tries = MadeAside[str]("the view"), iter([MemoryError("no room"), ImageError("no ground"), None])

    def make() -> str:
        if error := next(tries):
            raise error
        return "made"

    for sentence in ("no room", "no ground", "no ground"):
        with pytest.raises(HrdaError, match=sentence):
            things.get("a", make)
    assert things.get("b", make) == "made"
