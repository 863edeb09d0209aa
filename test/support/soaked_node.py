"""Take the real node through reloads, sizes of images and bad messages, and print what it holds after each part.

`main` takes what leaks (`none`, or `models_and_masks`: old models, and the masks of images), and three bundles, the
last one damaged. The output is JSON: a list of resident memory (MB), threads and descriptors after the warm-up, after
24 reloads, and after 1,000 images of changing sizes.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import cycle, islice
from pathlib import Path
from queue import Queue
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "node"))

import numpy as np
import rclpy
from image_messages import image
from rclpy.parameter import Parameter
from served_node import WAIT_S, ServedNode, served_node
from soak_verdict import look_at
from std_msgs.msg import Header

from hrda_core.inference import Prediction, Predictor
from hrda_core.memory import keep_big_buffers
from hrda_ros.model.hot_swap import Outcome

WARM_UP, RELOADS, SIZE_CHANGES = 6, 24, 1000
SIZES = [(31 + 7 * row, 40 + 11 * column) for row in range(11) for column in range(13)]


def frames() -> Any:
    """Messages of these sizes, one after the other; every seventh is too short to be used."""
    for number, (height, width) in enumerate(cycle(SIZES)):
        message = image(np.full((height, width, 3), 8 + 16 * (number % 16), np.uint8), "rgb8", header=Header())
        if number % 7 == 6:
            del message.data[10:]
        yield message


def reload(served: ServedNode, model: str) -> bool:
    """Exchange the model as the service does; return whether that went well."""
    answers: Queue[Outcome] = Queue()
    assert served.node.set_parameters([Parameter("model", value=model)])[0].successful
    load, timeout_s = served.node._prepare_reload()
    served.node._models.reload(load, answers.put, timeout_s)
    outcome = answers.get(timeout=WAIT_S)
    assert served.node._models.join(WAIT_S)
    return outcome.success


def held(served: ServedNode) -> dict[str, Any]:
    """What this process holds."""
    now = look_at(os.getpid(), 0.0)
    return {"resident_mb": now.resident_mb, "threads": now.threads, "descriptors": now.descriptors}


def leak() -> None:
    """Let this process keep old models and masks for ever."""
    kept: list[Any] = []
    predict = Predictor.__call__

    def predict_and_keep(predictor: Predictor, rgb: np.ndarray) -> Prediction:
        prediction = predict(predictor, rgb)
        kept.append(np.repeat(prediction.labels, 16))
        return prediction

    Predictor.__call__ = predict_and_keep  # type: ignore[method-assign]
    Predictor.close = lambda predictor: kept.append(predictor)  # type: ignore[method-assign]


def main(leaks: str, good: str, other: str, damaged: str) -> None:
    """Run, and print."""
    keep_big_buffers()
    rclpy.init()
    found = []
    if leaks == "models_and_masks":
        leak()
    with served_node("soaked", None, model=good, lazy=False, threads=1) as served:
        messages, models = frames(), cycle((other, good, damaged, other, good, f"{good}_that_is_not_there"))
        for message in islice(messages, 2 * len(SIZES)):
            served.give(message)
        for number in range(WARM_UP + RELOADS):
            if number == WARM_UP:
                found.append(held(served))
            assert reload(served, model := next(models)) == (model in (good, other))
            for message in islice(messages, 6):
                served.give(message)
        found.append(held(served))
        for message in islice(messages, SIZE_CHANGES):
            served.give(message)
        found.append(held(served))
        counts = served.counts()
        assert (counts.failed, counts.stale) == (0, 0), counts
    print(json.dumps(found))
    rclpy.try_shutdown()
