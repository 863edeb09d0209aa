"""Chooses the window plan that keeps a latency budget, without switching to and fro. Needs no ROS.

Plans are in a row, the most thorough one first. Two rules move along it, and only one step at a time:

    down   the median of the last frames is over the budget
    up     the slowest of the last frames would stay below 80 % of the budget in the plan above, by the costs that were
           measured when the plans were prepared, and the present plan has served for the waiting time

The waiting time is 10 s. A step up that is taken back before 40 frames and the waiting time are over doubles it, up to
10 minutes; one that lasts ten minutes brings it back to 10 s. So whatever the durations are, steps up are at least
10 s apart. Where the load stays as it is the plan settles: with costs that were measured rightly no step up is taken
back, and with wrong ones seldomer and seldomer, at last once in ten minutes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

__all__ = ["FIRST_WAIT_S", "LONGEST_WAIT_S", "NO_BUDGET", "WINDOW", "BudgetReport", "PlanSteps"]

WINDOW = 8
"""Frames of the present plan that a decision looks at."""

FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 600.0

_TRIAL = 40
"""Frames that a step up lasts at least, if it was right."""

_MARGIN = 0.8
"""Part of the budget that the plan above may take as it is predicted."""


@dataclass(frozen=True)
class BudgetReport:
    """How a latency budget is kept, for diagnostics.

    Attributes:
        budget_s: what the work on a frame may take, seconds; 0 = there is no budget.
        reason: why the present plan serves.
        switches: how often the plan was changed.
        over_s: what the work on a frame takes where the cheapest plan exceeds the budget, seconds; else 0.
    """

    budget_s: float = 0.0
    reason: str = "there is no latency budget"
    switches: int = 0
    over_s: float = 0.0


NO_BUDGET = BudgetReport()


class PlanSteps:
    """Where in the row of plans the next frame is, by what the last frames took. There is no clock inside.

    Args:
        costs_s: what a frame took in each plan when they were prepared, seconds, falling; at least one.
        budget_s: what the work on a frame may take, seconds.

    Attributes:
        index: place of the present plan in the row.
        steps: how often the plan was changed.
        reason: why the present plan serves, for readers.
    """

    def __init__(self, costs_s: Sequence[float], budget_s: float) -> None:
        self._costs_s, self._budget_s = tuple(costs_s), budget_s
        self.index, self.steps = 0, 0
        self.reason = "the first choice, and no frame has asked for another"
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._since_s: float | None = None
        self._frames = 0
        self._wait_s, self._on_trial = FIRST_WAIT_S, False

    @property
    def over_budget_s(self) -> float:
        """The median of the last frames where it is over the budget and no cheaper plan is left, seconds; else 0."""
        if self.index < len(self._costs_s) - 1 or len(self._last) < WINDOW:
            return 0.0
        present_s = median(self._last)
        return present_s if present_s > self._budget_s else 0.0

    def add(self, duration_s: float, now_s: float) -> None:
        """Take the duration of a frame in the present plan, seconds, and the time now, monotonic seconds."""
        if self._since_s is None:
            self._since_s = now_s
        self._last.append(duration_s)
        self._frames += 1
        served_s = now_s - self._since_s
        if self._on_trial and served_s >= LONGEST_WAIT_S:
            self._on_trial, self._wait_s = False, FIRST_WAIT_S
        if len(self._last) < WINDOW:
            return
        if median(self._last) > self._budget_s:
            self._down(now_s, served_s)
        elif self.index and served_s >= self._wait_s:
            self._try_up(now_s)

    def leave_out(self, index: int) -> None:
        """Forget a plan that turned out not to run. The present one is then the first again, and counting starts over.

        Args:
            index: its place in the row; not the first.
        """
        self._costs_s = (*self._costs_s[:index], *self._costs_s[index + 1 :])
        self._go_to(0, None, "the plan below it cannot run")

    def _down(self, now_s: float, served_s: float) -> None:
        if self.index == len(self._costs_s) - 1:
            return
        if self._on_trial and (served_s < self._wait_s or self._frames < _TRIAL):
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
        self._on_trial = False
        taken = f"the one above took {1e3 * median(self._last):.0f} ms of {1e3 * self._budget_s:.0f}"
        self._go_to(self.index + 1, now_s, taken)

    def _try_up(self, now_s: float) -> None:
        above_s = max(self._last) * self._costs_s[self.index - 1] / self._costs_s[self.index]
        if above_s > _MARGIN * self._budget_s:
            return
        self._on_trial = True
        self._go_to(self.index - 1, now_s, f"it should take {1e3 * above_s:.0f} ms of {1e3 * self._budget_s:.0f}")

    def _go_to(self, index: int, now_s: float | None, reason: str) -> None:
        self.index, self.steps, self.reason = index, self.steps + 1, reason
        self._since_s, self._frames = now_s, 0
        self._last.clear()
