"""The service `~/reload`: it answers when the reload has ended, and leaves the executor to the frames until then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from std_srvs.srv import Trigger

from hrda_ros.masks.served_model import ServedModel
from hrda_ros.model.hot_swap import HotSwap, Outcome

__all__ = ["ReloadService"]


class ReloadService:
    """The service `~/reload` (`std_srvs/srv/Trigger`) of a node.

    Args:
        node: node that owns the service.
        models: holder of the model that is to be replaced.
        prepare: called in the executor thread; returns the function that loads the model and the time-out, seconds,
            see `HotSwap.reload`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        models: HotSwap[ServedModel],
        prepare: Callable[[], tuple[Callable[[], ServedModel], float]],
    ) -> None:
        self._node, self._models, self._prepare = node, models, prepare
        # The group of the node would admit no image and no timer until the answer is there.
        self._service = node.create_service(Trigger, "~/reload", self._serve, callback_group=ReentrantCallbackGroup())

    async def _serve(self, request: Any, response: Any) -> Any:
        """Executor thread. While it awaits, the executor handles everything else, a second call of this too."""
        executor = self._node.executor
        answer: Future[Outcome] = Future()

        def done(outcome: Outcome) -> None:
            self._tell(outcome)
            answer.set_result(outcome)
            if executor is not None:
                executor.wake()  # it looks at waiting coroutines only when something happens

        load, timeout_s = self._prepare()
        self._models.reload(load, done, timeout_s)
        outcome = await answer
        assert outcome is not None
        response.success, response.message = outcome.success, outcome.message
        return response

    def _tell(self, outcome: Outcome) -> None:
        """Any thread: what others than the caller should know."""
        if outcome.success:
            with self._models.frame() as model:
                if model is not None:
                    model.announce()
            self._node.get_logger().info(outcome.message)
        elif self._node.context.ok():
            self._node.get_logger().error(f"cannot reload: {outcome.message}")
