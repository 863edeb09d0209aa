"""One model in several window plans: each frame gets the most thorough plan that keeps a latency budget.

All plans are opened and timed before the first frame, so a switch costs nothing but the memory of the plans. Needs no
ROS. `hrda_ros.model.plan_steps` has the rule.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import AnswerError, BackendError, HrdaError
from hrda_core.inference import Prediction
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.say import Level, Say, silent
from hrda_ros.model.plan_steps import BudgetReport, PlanSteps
from hrda_ros.model.segmenter import ModelInfo, Segmenter, open_segmenter
from hrda_ros.settings.parameters import Settings

__all__ = ["PlanLadder", "PreparedPlan", "open_within_budget"]

UInt8Array = npt.NDArray[np.uint8]

_CHEAPER = 0.9
"""A plan is worth a step if it takes this part of the time of the one above, or less."""

_RUNS = 3
"""A plan's cost is the fastest of so many frames, so that what else the machine does counts little."""


class PreparedPlan(Segmenter, Protocol):
    """The part of a `hrda_core.inference.Predictor` that is needed here."""

    def serves(self, height: int, width: int) -> bool:
        """Whether there is a graph for images of this size, pixels."""
        ...


class PlanLadder:
    """A `Segmenter` that switches between plans. It owns them, and like them serves one caller at a time.

    Args:
        first: the plan that serves where it keeps the budget.
        others: further plans of the same bundle, in any order. Those that are not cheaper are closed at the warm-up.
        budget_s: what the work on a frame may take, seconds; see `took`.
        say: takes the line that a plan failed and is left out, or that there is none to switch to.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        first: PreparedPlan,
        others: Sequence[PreparedPlan],
        budget_s: float,
        say: Say,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._row = [first, *others]
        self._budget_s, self._say, self._clock = budget_s, say, clock
        self._steps: PlanSteps | None = None

    @property
    def bundle(self) -> ModelInfo:
        """The model that runs."""
        return self._row[0].bundle

    @property
    def plan(self) -> str:
        """The plan that serves."""
        return self._present.plan

    @property
    def graph(self) -> GraphSpec:
        """The graph of that plan."""
        return self._present.graph

    @property
    def backend_description(self) -> str:
        """What runs that plan."""
        return self._present.backend_description

    def warm_up(self, height: int, width: int) -> None:
        """Run and time each plan on an image of this size, pixels, and keep the first and those that are cheaper."""
        first, *others = self._row
        first.warm_up(height, width)
        if not first.serves(height, width):
            return  # the first image will raise the error
        costs = {id(plan): self._cost_s(plan, height, width) for plan in self._row if plan.serves(height, width)}
        row, others = [first], sorted((plan for plan in others if id(plan) in costs), key=lambda plan: -costs[id(plan)])
        for plan in others:
            if costs[id(plan)] <= _CHEAPER * costs[id(row[-1])]:
                row.append(plan)
        for plan in self._row:
            if plan not in row:
                plan.close()
        self._row, self._steps = row, PlanSteps([costs[id(plan)] for plan in row], self._budget_s)
        told = ", ".join(f"{plan.plan} {1e3 * costs[id(plan)]:.0f} ms" for plan in row)
        alone = "" if len(row) > 1 else "; the bundle has no cheaper plan to switch to"
        self._say(f"latency budget of {1e3 * self._budget_s:.0f} ms: {told}{alone}")

    def __call__(self, rgb: UInt8Array) -> Prediction:
        """Masks of a uint8 (H, W, 3) RGB image. A cheaper plan that cannot run is left out, and the first answers."""
        present = self._present
        try:
            return present(rgb)
        except AnswerError:
            raise
        except BackendError as error:
            if self._steps is None or present is self._row[0]:
                raise
            self._say(f"plan '{present.plan}' is left out: {error}", Level.WARNING)
            self._steps.leave_out(self._steps.index)
            self._row.remove(present)
            present.close()
            return self._row[0](rgb)

    @property
    def takes_batch(self) -> bool:
        """Whether each plan takes several images at once."""
        return all(plan.takes_batch for plan in self._row)

    def batch(self, images: Sequence[UInt8Array]) -> Sequence[Prediction]:
        """Masks of images of one size, by the plan that serves. What fails there is left to single calls."""
        return self._present.batch(images)

    def took(self, duration_s: float) -> None:
        """Take what the work on the last frame took, seconds; the next frame may get another plan."""
        if self._steps is not None:
            self._steps.add(duration_s, self._clock())

    def report(self) -> BudgetReport:
        """Any thread: how the budget is kept."""
        steps = self._steps
        if steps is None:
            return BudgetReport(self._budget_s, "the plans were not timed: no graph is for the images")
        alone = len(self._row) == 1
        reason = "the bundle has no cheaper plan to switch to" if alone else steps.reason
        return BudgetReport(self._budget_s, reason, steps.steps, steps.over_budget_s)

    def close(self) -> None:
        """Free the memory of all plans."""
        for plan in self._row:
            plan.close()

    @property
    def _present(self) -> PreparedPlan:
        return self._row[self._steps.index if self._steps else 0]

    def _cost_s(self, plan: PreparedPlan, height: int, width: int) -> float:
        plan.warm_up(height, width)
        times = []
        for _ in range(_RUNS):
            started = self._clock()
            plan.warm_up(height, width)
            times.append(self._clock() - started)
        return min(times)


def open_within_budget(settings: Settings, say: Say = silent) -> Segmenter:
    """Load the bundle that the settings name, with `latency_budget_ms` in all of its plans that can be opened.

    Args:
        say: takes lines for the log, see `hrda_ros.model.segmenter.open_segmenter`.

    Raises:
        HrdaError: the bundle, the back end or the plan that the settings name cannot be used.
    """
    first = open_segmenter(settings, say)
    if not settings.latency_budget_ms:
        return first
    others: list[PreparedPlan] = []
    for plan in first.bundle.plans:
        if plan == first.plan:
            continue
        try:
            others.append(open_segmenter(replace(settings, model=str(first.bundle.path), plan=plan), say))
        except HrdaError as error:
            say(f"plan '{plan}' cannot be prepared for the latency budget: {error}", Level.WARNING)
    return PlanLadder(first, others, 1e-3 * settings.latency_budget_ms, say)
