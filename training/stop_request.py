"""Stops a command that trains: the step is finished and a checkpoint is written before it ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrda_core.trainer.journal import Progress

__all__ = ["StopRequest"]


class StopRequest:
    """Turns Ctrl-C and SIGTERM during training into "finish this step, write a checkpoint"; elsewhere they end at once.

    The other stages leave whole files, so that nothing is lost by an end at any line. A second Ctrl-C always ends.

    Args:
        training: whether the training has begun. A command with other stages before it calls `seen` to say so.
    """

    def __init__(self, *, training: bool = False) -> None:
        self._asked, self._training = False, training
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def seen(self, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Wrap `progress` such that it also notes whether the training goes on after that step."""

        def call(step: Progress) -> None:
            self._training = step.iteration < step.iterations
            progress(step)

        return call

    def _ask(self, number: int, frame: object) -> None:
        if self._asked or not self._training:
            raise KeyboardInterrupt
        self._asked = True
