"""The choice of the window plan by a latency budget: it follows the load, and it never switches to and fro."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_ros.model.plan_steps import FIRST_WAIT_S, WINDOW, PlanSteps

BUDGET_S = 0.1
durations = st.floats(0.0, 0.5)
falling = st.lists(st.floats(0.001, 0.5), min_size=1, max_size=4, unique=True).map(lambda row: sorted(row)[::-1])


def indices(steps: PlanSteps, duration: Callable[[int, float], float], seconds: float, hz: float = 5.0) -> list[int]:
    """The plan of each frame of a run in which a frame takes `duration(plan, time)` seconds."""
    found = []
    for number in range(int(seconds * hz)):
        found.append(steps.index)
        steps.add(duration(steps.index, number / hz), number / hz)
    return found


def ups(found: list[int]) -> list[int]:
    """The frames at which a more thorough plan began."""
    return [number for number in range(1, len(found)) if found[number] < found[number - 1]]


@settings(max_examples=40)
@given(falling, st.lists(durations, min_size=1, max_size=300), st.floats(0.2, 20.0))
def test_whatever_frames_take_steps_are_single_and_one_up_waits_ten_seconds(
    costs: list[float], taken: list[float], hz: float
) -> None:
    steps = PlanSteps(costs, BUDGET_S)
    found = indices(steps, lambda _, time: taken[int(time * 7) % len(taken)], 300 / hz, hz)
    changes = [number for number in range(1, len(found)) if found[number] != found[number - 1]]
    assert all(abs(found[number] - found[number - 1]) == 1 for number in changes)
    assert all(0 <= index < len(costs) for index in found)
    last = 0
    for number in changes:
        assert number - last >= WINDOW
        assert found[number] > found[number - 1] or (number - last) / hz >= FIRST_WAIT_S - 1 / hz - 1e-6
        last = number


@settings(max_examples=40)
@given(falling, st.integers(0, 999).map(random.Random))
def test_under_a_load_that_stays_it_settles_and_never_steps_up(costs: list[float], chance: random.Random) -> None:
    steps = PlanSteps(costs, BUDGET_S)
    found = indices(steps, lambda plan, _: costs[plan] * chance.uniform(0.92, 1.08), 600.0)
    assert ups(found) == []
    settled = found[-1]
    assert costs[settled] <= BUDGET_S * 1.09 or settled == len(costs) - 1
    assert all(cost > BUDGET_S * 0.91 for cost in costs[:settled]), "no plan that fits was passed over"
    assert steps.steps == settled


@settings(max_examples=25)
@given(st.lists(durations, min_size=3, max_size=3), st.lists(st.floats(0.001, 0.5), min_size=3, max_size=3))
def test_costs_that_were_measured_wrongly_cost_ever_fewer_switches(measured: list[float], true: list[float]) -> None:
    steps = PlanSteps(sorted(measured)[::-1] if min(measured) > 0 else [0.3, 0.2, 0.1], BUDGET_S)
    hour = indices(steps, lambda plan, _: true[plan], 3600.0, hz=2.0)
    # Waits of 10, 20 ... 320 s are over after 630 s, and then there is one in 600 s; two more may go well.
    assert len(ups(hour)) <= 6 + 5 + 2


def test_it_comes_back_to_the_first_plan_when_the_load_has_gone() -> None:
    costs = [0.08, 0.03, 0.01]
    found = indices(PlanSteps(costs, BUDGET_S), lambda plan, time: costs[plan] * (4 if 5 < time < 40 else 1), 120.0)
    assert found[0] == 0
    assert found[(39 * 5)] == 2, "neither of the others fits while frames take four times as long"
    assert found[-1] == 0
    assert len(ups(found)) == 2


def test_it_does_not_come_back_while_some_frames_would_be_too_slow() -> None:
    costs = [0.06, 0.03]

    def busy(plan: int, time: float) -> float:
        return costs[plan] * (3 if time < 5 or int(time * 5) % 4 == 0 else 1)

    assert ups(indices(PlanSteps(costs, BUDGET_S), busy, 120.0)) == []


def test_at_few_frames_a_second_too_a_step_that_was_wrong_makes_it_wait_longer() -> None:
    hour = indices(PlanSteps([0.06, 0.05], BUDGET_S), lambda plan, _: (0.3, 0.05)[plan], 3600.0, hz=0.5)
    assert len(ups(hour)) <= 6 + 5


def test_a_step_up_that_lasts_ten_minutes_ends_the_longer_waiting() -> None:
    costs = [0.06, 0.03]

    def busy(plan: int, time: float) -> float:
        # For 150 s the first plan is slower than its cost says, then all is well, and at last all is busy for 5 s.
        slower = 4 if (time < 150 and plan == 0) or 900 < time < 905 else 1
        return costs[plan] * slower

    found = indices(PlanSteps(costs, BUDGET_S), busy, 1000.0)
    before = [number / 5 for number in ups(found) if number < 150 * 5]
    assert before[1] - before[0] > 15
    assert before[2] - before[1] > 35
    (*_, last) = ups(found)
    assert 905 < last / 5 < 918, "ten seconds count again"


def test_single_slow_frames_change_nothing() -> None:
    found = indices(PlanSteps([0.08, 0.03], BUDGET_S), lambda _, time: 0.9 if int(time * 5) % 3 == 0 else 0.08, 60.0)
    assert set(found) == {0}


def test_it_says_why_a_plan_serves_and_when_the_cheapest_is_too_slow() -> None:
    steps = PlanSteps([0.2, 0.1], BUDGET_S)
    assert (steps.reason, steps.over_budget_s) == ("the first choice, and no frame has asked for another", 0.0)
    indices(steps, lambda plan, _: 0.25, 4.0)
    assert (steps.index, steps.reason) == (1, "the one above took 250 ms of 100")
    assert steps.over_budget_s == 0.25
    indices(steps, lambda plan, _: 0.02, 20.0)
    assert (steps.index, steps.reason, steps.over_budget_s) == (0, "it should take 40 ms of 100", 0.0)


def test_a_plan_that_cannot_run_is_left_out_and_the_first_serves_again() -> None:
    steps = PlanSteps([0.3, 0.2, 0.01], BUDGET_S)
    indices(steps, lambda plan, _: 0.3, 2.0)
    assert steps.index == 1
    steps.leave_out(1)
    assert (steps.index, steps.reason) == (0, "the plan below it cannot run")
    assert indices(steps, lambda plan, _: (0.3, 0.01)[plan], 9.0)[-1] == 1
