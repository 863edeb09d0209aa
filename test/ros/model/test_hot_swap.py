"""The exchange of models between two frames, without ROS: models are strings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import Queue

import pytest

from hrda_core.errors import BundleError
from hrda_ros.model.hot_swap import HotSwap, Outcome

WAIT_S = 60.0


class Loading:
    """A model that is ready when the test says so."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.started, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.may_end.wait(WAIT_S)
        return self._model


@pytest.fixture
def models() -> Iterator[HotSwap[str]]:
    models: HotSwap[str] = HotSwap(lambda old, new, duration_s: f"{old} to {new} in {duration_s >= 0}")
    models.install("old")
    yield models
    models.clear()
    assert models.join(WAIT_S), "no thread is left"


@pytest.fixture
def answers() -> Queue[Outcome]:
    return Queue()


def fail(error: Exception) -> Callable[[], str]:
    def load() -> str:
        raise error

    return load


def served(models: HotSwap[str]) -> str | None:
    with models.frame() as model:
        return model


def test_without_a_frame_in_hand_the_new_model_serves_at_once(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    models.reload(lambda: "new", answers.put)
    assert answers.get(timeout=WAIT_S) == Outcome(True, "old to new in True")
    assert (served(models), models.reloads, models.last_error) == ("new", 1, "")


def test_p6_frames_keep_the_old_model_until_the_new_one_is_ready(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    loading = Loading("new")
    models.reload(loading, answers.put)
    assert loading.started.wait(WAIT_S)
    assert [served(models) for _ in range(3)] == ["old"] * 3
    loading.may_end.set()
    assert answers.get(timeout=WAIT_S).success
    assert served(models) == "new"


def test_the_frame_in_hand_is_finished_with_the_old_model(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    with models.frame() as model:
        models.reload(lambda: "new", answers.put)
        while models._ready is None:
            threading.Event().wait(0.001)
        assert (model, models.serving) == ("old", "old")
        assert answers.empty(), "the answer comes after the exchange"
    assert models.serving == "new"
    assert answers.get(timeout=WAIT_S).success


def test_an_exchange_does_not_wait_for_a_frame_that_never_ends(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    with models.frame():  # of a worker that was given up on
        models.reload(lambda: "new", answers.put)
        while models._ready is None:
            threading.Event().wait(0.001)
        assert served(models) == "new"
        assert answers.get(timeout=WAIT_S).success


@pytest.mark.parametrize(
    ("error", "reason"),
    [(BundleError("no such folder"), "no such folder"), (RuntimeError("boom"), "RuntimeError: boom")],
)
def test_p6_c8_a_model_that_cannot_be_loaded_changes_nothing(
    models: HotSwap[str], answers: Queue[Outcome], error: Exception, reason: str
) -> None:
    models.reload(fail(error), answers.put)
    assert answers.get(timeout=WAIT_S) == Outcome(False, f"the old model goes on serving: {reason}")
    assert (served(models), models.reloads, models.last_error) == ("old", 0, reason)
    models.reload(lambda: "new", answers.put)
    assert answers.get(timeout=WAIT_S).success
    assert (models.reloads, models.last_error) == (1, ""), "a success takes the error back"


def test_a_second_reload_is_refused_while_one_is_on_its_way(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    loading = Loading("new")
    models.reload(loading, answers.put)
    models.reload(lambda: "newer", answers.put)
    refused = answers.get_nowait()
    assert not refused.success
    assert "another reload is on its way" in refused.message
    assert models.last_error == "", "a refused call is no failed reload"
    loading.may_end.set()
    assert answers.get(timeout=WAIT_S).success
    assert served(models) == "new"


def test_a_reload_is_refused_while_no_model_serves(answers: Queue[Outcome]) -> None:
    empty: HotSwap[str] = HotSwap(lambda old, new, duration_s: "")
    empty.reload(lambda: "new", answers.put)
    refused = answers.get_nowait()
    assert not refused.success
    assert "configure" in refused.message
    assert served(empty) is None


def test_a_dropped_reload_answers_at_once_and_its_model_never_serves(
    models: HotSwap[str], answers: Queue[Outcome]
) -> None:
    loading = Loading("new")
    models.reload(loading, answers.put)
    models.drop()
    dropped = answers.get_nowait()
    assert not dropped.success
    assert "dropped" in dropped.message
    assert models.last_error == ""
    loading.may_end.set()
    assert models.join(WAIT_S)
    assert (served(models), models.reloads) == ("old", 0)
    assert answers.empty(), "each call is answered once"
    models.reload(lambda: "newer", answers.put)
    assert answers.get(timeout=WAIT_S).success


def test_l2_a_reload_that_hangs_answers_after_its_time_out_and_can_be_tried_again(answers: Queue[Outcome]) -> None:
    released: list[str] = []
    models: HotSwap[str] = HotSwap(lambda old, new, duration_s: f"{old} to {new}", released.append)
    models.install("old")
    loading = Loading("late")
    models.reload(loading, answers.put, 0.05)
    reason = "the new model has given no sign of life for 0.05 s (reload_timeout_s)"
    assert answers.get(timeout=WAIT_S) == Outcome(False, f"the old model goes on serving: {reason}")
    assert (served(models), models.last_error) == ("old", reason)
    hanging = models._thread
    models.reload(lambda: "new", answers.put, WAIT_S)
    assert answers.get(timeout=WAIT_S) == Outcome(True, "old to new")
    loading.may_end.set()
    assert hanging is not None
    hanging.join(WAIT_S)
    assert models.join(WAIT_S)  # the old model is released after the answer
    assert (served(models), sorted(released), models.last_error) == ("new", ["late", "old"], "")
    assert answers.empty(), "each call is answered once"


def test_l2_a_loaded_model_that_waits_for_a_frame_without_end_answers_after_the_time_out_too(
    models: HotSwap[str], answers: Queue[Outcome]
) -> None:
    with models.frame():
        models.reload(lambda: "new", answers.put, 0.05)
        assert "no sign of life" in answers.get(timeout=WAIT_S).message
        assert models.join(WAIT_S)
    assert served(models) == "old"


def test_l2_a_reload_that_is_heard_of_has_all_the_time_it_needs(answers: Queue[Outcome]) -> None:
    now_s = 0.0
    models: HotSwap[str] = HotSwap(lambda old, new, duration_s: f"after {duration_s:g} s", clock=lambda: now_s)
    models.install("old")

    def load() -> str:
        nonlocal now_s
        for _ in range(10):  # a build that tells every five seconds
            now_s += 5.0
            models.heard()
            wake_the_watch()
        return "new"

    def wake_the_watch() -> None:
        with models._condition:
            models._condition.notify_all()
        threading.Event().wait(0.005)

    models.reload(load, answers.put, 6.0)
    assert answers.get(timeout=WAIT_S) == Outcome(True, "after 50 s")


def test_l2_a_load_that_wants_to_end_the_process_is_answered(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    def load() -> str:
        raise SystemExit(1)

    models.reload(load, answers.put)
    assert answers.get(timeout=WAIT_S) == Outcome(False, "the old model goes on serving: SystemExit: 1")


def test_a_failure_after_the_drop_is_not_reported(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    may_end = threading.Event()

    def load() -> str:
        assert may_end.wait(WAIT_S)
        raise BundleError("too late")

    models.reload(load, answers.put)
    models.drop()
    may_end.set()
    assert models.join(WAIT_S)
    assert answers.get_nowait().message.startswith("the reload was dropped")
    assert answers.empty()
    assert models.last_error == ""


def test_a_model_that_waits_for_the_frame_in_hand_can_still_be_dropped(
    models: HotSwap[str], answers: Queue[Outcome]
) -> None:
    with models.frame():
        models.reload(lambda: "new", answers.put)
        while models._ready is None:
            threading.Event().wait(0.001)
        models.drop()
        assert models.join(WAIT_S), "its thread does not wait for the frame"
    assert served(models) == "old"
    assert not answers.get_nowait().success


def test_joining_says_whether_the_thread_has_ended(models: HotSwap[str], answers: Queue[Outcome]) -> None:
    loading = Loading("new")
    models.reload(loading, answers.put)
    assert not models.join(0.01)
    loading.may_end.set()
    assert models.join(WAIT_S)


def test_frames_and_reloads_from_many_sides_stay_in_order() -> None:
    models: HotSwap[int] = HotSwap(lambda old, new, duration_s: f"{old} {new}")
    models.install(0)
    seen: list[int] = []
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            with models.frame() as model:
                assert model is not None
                seen.append(model)
                assert models.serving == model, "no exchange within a frame"

    worker = threading.Thread(target=work)
    worker.start()
    answers: Queue[Outcome] = Queue()
    for number in range(1, 201):
        models.reload(lambda number=number: number, answers.put)  # type: ignore[misc]
        assert answers.get(timeout=WAIT_S) == Outcome(True, f"{number - 1} {number}")
    ended.set()
    worker.join(WAIT_S)
    assert models.reloads == 200
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


class Released:
    """Models that were released, in order."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self._condition = threading.Condition()

    def __call__(self, model: str) -> None:
        with self._condition:
            self.models.append(model)
            self._condition.notify_all()

    def wait_for(self, *models: str) -> None:
        with self._condition:
            assert self._condition.wait_for(lambda: self.models == list(models), WAIT_S), self.models


@pytest.fixture
def released() -> Released:
    return Released()


@pytest.fixture
def releasing(released: Released) -> HotSwap[str]:
    models: HotSwap[str] = HotSwap(lambda old, new, duration_s: "", released)
    models.install("old")
    return models


def test_the_old_model_is_released_after_the_exchange_and_the_last_one_by_clear(
    releasing: HotSwap[str], released: Released, answers: Queue[Outcome]
) -> None:
    assert served(releasing) == "old"
    releasing.reload(lambda: "new", answers.put)
    assert answers.get(timeout=WAIT_S).success
    released.wait_for("old")
    assert served(releasing) == "new"
    releasing.clear()
    assert released.models == ["old", "new"]
    releasing.clear()
    assert released.models == ["old", "new"], "once"


def test_a_model_that_a_frame_has_in_hand_is_released_at_the_end_of_the_frame(
    releasing: HotSwap[str], released: Released
) -> None:
    with releasing.frame(), releasing.frame():  # a worker that was given up on, and the next one
        releasing.clear()
        assert released.models == []
    assert released.models == ["old"]


def test_an_exchange_beside_a_frame_that_never_ends_releases_nothing_of_it(
    releasing: HotSwap[str], released: Released, answers: Queue[Outcome]
) -> None:
    with releasing.frame() as held:
        releasing.reload(lambda: "new", answers.put)
        while releasing._ready is None:
            threading.Event().wait(0.001)
        assert served(releasing) == "new"
        assert releasing.join(WAIT_S)
        assert (held, released.models) == ("old", [])
    assert released.models == ["old"]


def test_a_model_that_is_loaded_too_late_is_released(
    releasing: HotSwap[str], released: Released, answers: Queue[Outcome]
) -> None:
    loading = Loading("new")
    releasing.reload(loading, answers.put)
    releasing.drop()
    loading.may_end.set()
    released.wait_for("new")
    with releasing.frame():
        releasing.reload(lambda: "newer", answers.put)
        while releasing._ready is None:
            threading.Event().wait(0.001)
        releasing.drop()  # loaded, and waiting for the frame in hand
        released.wait_for("new", "newer")
    assert served(releasing) == "old"


def test_l8_memory_is_tidied_after_each_reload_when_nothing_of_it_is_held_and_after_clear(
    answers: Queue[Outcome],
) -> None:
    events: list[str] = []
    models: HotSwap[str] = HotSwap(lambda old, new, duration_s: "", events.append, lambda: events.append("tidy"))
    models.install("old")
    models.reload(lambda: "new", answers.put)
    assert answers.get(timeout=WAIT_S).success
    assert models.join(WAIT_S)
    models.reload(fail(BundleError("damaged")), answers.put)
    assert models.join(WAIT_S)
    models.clear()
    models.clear()
    assert events == ["old", "tidy", "tidy", "new", "tidy"]
