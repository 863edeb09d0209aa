"""A service is asked until it answers, or the time is up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.start import service_answer
from hrda_ros.start.service_answer import answer_of

KIND = SimpleNamespace(Request=lambda **values: values)


class Own:
    """A node with one service, which answers from the given request on; time goes on by a second a look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers_from: int, *, there: bool = True) -> None:
        self.asked: list[Any] = []
        self.answers_from, self.there, self.now, self.clients = answers_from, there, 0.0, 0
        monkeypatch.setattr(service_answer, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(service_answer, "spin_until", self._spin)

    def _spin(self, own: Any, condition: Any, timeout_s: float) -> bool:
        end = self.now + timeout_s
        while not condition() and self.now < end:
            self.now += 1
        return bool(condition())

    def create_client(self, kind: Any, name: str) -> Any:
        self.clients += 1
        return SimpleNamespace(service_is_ready=lambda: self.there, call_async=self._call)

    def destroy_client(self, client: Any) -> None:
        self.clients -= 1

    def _call(self, request: Any) -> Any:
        self.asked.append(request)
        number = len(self.asked)
        return SimpleNamespace(done=lambda: number >= self.answers_from, result=lambda: f"answer {number}")


def test_what_may_be_asked_twice_is_asked_again_where_an_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Own(monkeypatch, answers_from=3)
    assert answer_of(own, KIND, "/a", {"x": 1}, 10, 10, again=True) == "answer 3"
    assert own.asked == [{"x": 1}] * 3
    assert own.clients == 0


def test_what_may_be_asked_once_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Own(monkeypatch, answers_from=2)
    assert answer_of(own, KIND, "/a", {}, 10, 10) is None
    assert len(own.asked) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_service_that_is_not_there_or_silent_is_none(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    assert answer_of(Own(monkeypatch, 1, there=False), KIND, "/a", {}, 5, 5, again=again) is None
    silent = Own(monkeypatch, 99)
    assert answer_of(silent, KIND, "/a", {}, 5, 5, again=again) is None
    assert silent.clients == 0
