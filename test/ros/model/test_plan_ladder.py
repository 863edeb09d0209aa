"""One model in several plans: which of them are prepared, which answers, and what is said, at last by the real node."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from served_node import served_node
from tiny_bundle import expected_labels, write_tiny_bundle

from hrda_core.errors import AnswerError, BackendError
from hrda_core.inference import Prediction
from hrda_core.inference.say import Level, silent
from hrda_ros.masks.served_model import CameraOutputs, ServedModel
from hrda_ros.model.plan_ladder import PlanLadder, open_within_budget
from hrda_ros.model.plan_steps import WINDOW
from hrda_ros.model.segmenter import WARM_UP_SIZE, warmed_up
from hrda_ros.settings.parameters import Settings

IMAGE = np.zeros((4, 4, 3), np.uint8)


class Plan(FakeSegmenter):
    """A plan that takes `cost_s` seconds of a clock of its own, and masks of a class of its own."""

    def __init__(self, plan: str, cost_s: float, label: int, clock: list[float], serves: bool = True) -> None:
        super().__init__("fake", label)
        self.plan, self.cost_s, self.clock, self.serves = plan, cost_s, clock, lambda height, width: serves
        self.error: Exception | None = None
        self.warm_ups = 0

    def warm_up(self, height: int, width: int) -> None:
        """Every other time something else holds it up."""
        self(IMAGE)
        self.warm_ups += 1
        self.clock[0] += self.warm_ups % 2

    def __call__(self, rgb: np.ndarray) -> Prediction:
        if self.error is not None:
            raise self.error
        self.clock[0] += self.cost_s
        return super().__call__(rgb)


def made(*plans: tuple[str, float, bool], budget_s: float = 0.1) -> SimpleNamespace:
    """A ladder that has been warmed up, its plans by name, and what it says."""
    clock, said = [0.0], []
    row = [Plan(name, cost_s, label, clock, serves) for label, (name, cost_s, serves) in enumerate(plans)]
    ladder = PlanLadder(row[0], row[1:], budget_s, lambda *line: said.append(line), clock=lambda: clock[0])
    ladder.warm_up(480, 640)
    return SimpleNamespace(ladder=ladder, plans={plan.plan: plan for plan in row}, said=said, clock=clock)


def frames(made: SimpleNamespace, seconds: float, slower: float = 1.0) -> list[int]:
    """The classes of the masks of a camera that waits for each mask."""
    found, end = [], made.clock[0] + seconds
    while made.clock[0] < end:
        started = made.clock[0]
        found.append(int(made.ladder(IMAGE).labels[0, 0]))
        made.clock[0] = started + slower * (made.clock[0] - started)
        made.ladder.took(made.clock[0] - started)
    return found


def test_plans_that_are_cheaper_are_kept_by_cost_and_the_others_are_closed() -> None:
    it = made(("tiles", 0.08, True), ("context", 0.03, True), ("overlap", 0.2, True), ("topk", 0.05, True),
              ("whole", 0.029, True), ("static", 0.001, False))  # fmt: skip
    assert {name: plan.closed for name, plan in it.plans.items()} == {
        "tiles": 0, "topk": 0, "context": 0, "overlap": 1, "whole": 1, "static": 1,
    }  # fmt: skip
    assert [line for line, *_ in it.said] == ["latency budget of 100 ms: tiles 80 ms, topk 50 ms, context 30 ms"]
    assert (it.ladder.plan, it.ladder.bundle.name, it.ladder.graph.plan) == ("tiles", "fake", "tiles")
    it.ladder.close()
    assert [it.plans[name].closed for name in ("tiles", "topk", "context")] == [1, 1, 1]


def test_under_load_the_cheaper_plan_answers_and_then_the_first_again() -> None:
    it = made(("tiles", 0.07, True), ("context", 0.03, True))
    assert set(frames(it, 5.0)) == {0}
    busy = frames(it, 5.0, slower=3.0)
    assert (busy[0], busy[-1]) == (0, 1)
    report = it.ladder.report()
    assert (it.ladder.plan, report.switches, report.reason) == ("context", 1, "the one above took 140 ms of 100")
    assert (report.budget_s, report.over_s) == (0.1, 0.0)
    assert frames(it, 20.0)[-1] == 0
    assert (it.ladder.report().switches, it.ladder.report().reason) == (2, "it should take 70 ms of 100")


def test_a_bundle_without_a_cheaper_plan_says_so_and_that_the_budget_is_exceeded() -> None:
    it = made(("whole", 0.3, True))
    frames(it, 3.0)
    report = it.ladder.report()
    assert it.said == [("latency budget of 100 ms: whole 300 ms; the bundle has no cheaper plan to switch to",)]
    assert (report.reason, report.switches) == ("the bundle has no cheaper plan to switch to", 0)
    assert report.over_s == pytest.approx(0.3)


def test_a_plan_that_cannot_run_is_left_out_and_its_frame_is_answered_all_the_same() -> None:
    it = made(("tiles", 0.3, True), ("topk", 0.09, True), ("context", 0.03, True))
    assert frames(it, 4.0)[-1] == 1
    it.plans["topk"].error = BackendError("no graph is for images of 5x5 pixels")
    assert it.ladder(IMAGE).labels[0, 0] == 0
    assert it.said[-1] == ("plan 'topk' is left out: no graph is for images of 5x5 pixels", Level.WARNING)
    assert it.plans["topk"].closed == 1
    assert frames(it, 4.0)[-1] == 2


@pytest.mark.parametrize(
    ("plan", "error"), [("tiles", BackendError("gone")), ("context", AnswerError("not finite", "non_finite"))]
)
def test_an_error_of_the_first_plan_and_a_bad_answer_fail_the_frame(plan: str, error: Exception) -> None:
    it = made(("tiles", 0.3 if plan == "context" else 0.03, True), ("context", 0.01, True))
    frames(it, 4.0)
    assert it.ladder.plan == plan
    it.plans[plan].error = error
    with pytest.raises(type(error)):
        it.ladder(IMAGE)


def test_without_a_graph_for_the_images_nothing_is_timed() -> None:
    it = made(("topk", 0.08, False), ("context", 0.03, True))
    assert it.ladder.report().reason == "the plans were not timed: no graph is for the images"
    it.ladder.took(9.0)
    assert (it.ladder.plan, it.said) == ("topk", [])


def test_the_plans_of_a_real_bundle_are_opened_with_a_budget_alone(tmp_path: Path) -> None:
    broken = {"plan": "topk", "file": "model.onnx", "grid": [2, 2], "size": [64, 64], "keep": 1, "precision": "fp16"}
    bundle, said = write_tiny_bundle(tmp_path / "b", static_graphs=[broken]), []
    plain = open_within_budget(Settings(model=str(bundle), backend="onnx"))
    assert not isinstance(plain, PlanLadder)
    budgeted = Settings(model=str(bundle), backend="onnx", latency_budget_ms=1e-6)
    ladder = warmed_up(open_within_budget(budgeted, lambda *line: said.append(line)), [(64, 64)])
    assert isinstance(ladder, PlanLadder)
    assert said[0][0].startswith("plan 'topk' cannot be prepared for the latency budget: model bundle")
    rgb = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(ladder(rgb).labels, expected_labels(rgb))
    assert WARM_UP_SIZE != (64, 64)


def test_the_plan_that_took_over_is_published() -> None:
    it, infos = made(("tiles", 0.08, True), ("context", 0.03, True)), []
    masks: Any = None
    camera = CameraOutputs(it.ladder, "", masks, lambda model, identity, stamp: infos.append(model.plan))
    served = ServedModel(it.ladder, "", {"": camera})
    assert not camera.look_again()
    for _ in range(WINDOW):
        served.took(0.5)
    assert camera.look_again()
    assert infos == ["context"]
    assert (camera.running.plan, served.budget().switches) == ("context", 1)


def test_the_node_takes_the_cheaper_plan_and_says_so_in_its_report_and_its_log(
    ros: Any, image_message: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    # The work on every frame is over this budget, so the cheapest plan is reached and exceeds it too.
    clock = [0.0]
    plans = [Plan("tiles", 0.08, 0, clock), Plan("context", 0.03, 1, clock)]
    ladder = PlanLadder(plans[0], plans[1:], 1e-9, silent, clock=lambda: clock[0])
    with served_node("budget", lambda _: ladder, lazy=False) as served:
        before = served.report(9.0, 0.0)
        for _ in range(2 * WINDOW + 1):
            served.give(image_message(IMAGE))
        after = served.report(9.0, 0.0)
        found = [int(mask[0, 0]) for mask in served.masks.pixels]
    assert found == [0] * WINDOW + [1] * (WINDOW + 1), "no frame is lost in the exchange"
    assert (before.plan, before.budget.switches) == ("tiles", 0)
    assert (after.plan, after.budget.switches) == ("context", 1)
    assert after.budget.over_s > 0
    assert "now plan context" in capfd.readouterr().err
