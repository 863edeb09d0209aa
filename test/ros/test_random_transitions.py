"""Lifecycle transitions in any order while frames come in: the real node in this process, without DDS between."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from fake_segmenter import FakeSegmenter
from served_node import served_node

TRANSITIONS = int(os.environ.get("HRDA_TRANSITIONS", "250"))
LEADS_TO = {
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("active", "deactivate"): "inactive",
    ("inactive", "cleanup"): "unconfigured",
}


def test_p1_p3_c1_random_transitions_under_load_end_where_the_state_machine_says(
    ros: Any, image_message: Callable[..., Any]
) -> None:
    opened: list[FakeSegmenter] = []

    def segmenter(settings: Any) -> FakeSegmenter:
        opened.append(FakeSegmenter("transient"))
        return opened[-1]

    generator, ended, broken = random.Random(5), threading.Event(), []
    message = image_message(np.zeros((8, 8, 3), np.uint8))
    with served_node("transient", segmenter, lazy=False) as served:
        node, state = served.node, "active"

        def play() -> None:
            try:
                while not ended.wait(0.0005):
                    served.give(message, wait=False)
            except BaseException as error:
                broken.append(error)

        camera = threading.Thread(target=play)
        camera.start()
        try:
            for _ in range(TRANSITIONS):
                allowed = [verb for start, verb in LEADS_TO if start == state]
                verb = generator.choice([*allowed, *allowed, *{verb for _, verb in LEADS_TO}])
                assert succeeds(node, verb) == ((state, verb) in LEADS_TO), (state, verb)
                state = LEADS_TO.get((state, verb), state)
                assert node._state_machine.current_state[1] == served.report(1.0, 0.0).state == state
                served.counts()
        finally:
            ended.set()
            camera.join()
        assert not broken
        assert len(opened) - sum(model.closed for model in opened) == (state != "unconfigured"), "each is closed once"
        assert all(model.closed <= 1 for model in opened)
        assert threads_of_the_node() <= 1
        served.wait()
        counts = served.counts()
    assert counts.published > 0
    assert counts.causes.keys() <= {("stale", "deactivated"), ("stale", "nobody_subscribed")}, counts.causes
    assert threads_of_the_node() == 0


def succeeds(node: Any, verb: str) -> bool:
    """Whether the node makes a transition. Up to Jazzy, rclpy raises where a state has none of this name."""
    from rclpy.impl.implementation_singleton import rclpy_implementation

    try:
        return bool(getattr(node, f"trigger_{verb}")().name == "SUCCESS")
    except rclpy_implementation.RCLError:
        return False


def threads_of_the_node() -> int:
    return sum(thread.name == "hrda-worker" for thread in threading.enumerate())
