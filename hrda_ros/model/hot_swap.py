"""Holds the model in use, and exchanges it for another between two frames. Needs no ROS.

A reload loads the new model beside the old one, in a thread of its own; frames go on with the old one meanwhile. When
the new model is ready the frame in hand is finished with the old one and the next frame gets the new one. Without a
frame in hand the exchange happens at once. A model that cannot be loaded, or whose loading hangs, changes nothing. A
model that is no longer needed is released as soon as no frame uses it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hrda_core.errors import reason_of

__all__ = ["HotSwap", "Outcome"]

ModelT = TypeVar("ModelT")

_DROPPED = "the reload was dropped: the node was deactivated, cleaned up or shut down before the new model was ready"


@dataclass(frozen=True)
class Outcome:
    """The result of a reload.

    Attributes:
        success: whether the new model is in use.
        message: one sentence.
    """

    success: bool
    message: str


@dataclass(eq=False)
class _Attempt(Generic[ModelT]):
    """One reload on its way.

    Attributes:
        load, done, timeout_s: as given to `HotSwap.reload`.
        heard_s: time of its last sign of life.
        replaced: the old model, once the new one serves.
    """

    load: Callable[[], ModelT]
    done: Callable[[Outcome], None]
    timeout_s: float
    heard_s: float
    replaced: list[ModelT] = field(default_factory=list)


class HotSwap(Generic[ModelT]):
    """Holds the model in use. Frames and reloads may come from any thread.

    Args:
        describe: makes the sentence for a successful reload from (old model, new model, seconds from start to
            exchange).
        release: frees what a model holds; called once, from any thread, for each model that was installed or loaded,
            when it is no longer needed and no frame uses it. It must not raise.
        tidy: called after each reload, whatever became of it, in its thread, and after `clear`, when nothing of it is
            held any more. It must not raise.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        describe: Callable[[ModelT, ModelT, float], str],
        release: Callable[[ModelT], None] = lambda model: None,
        tidy: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._describe, self._release, self._tidy = describe, release, tidy
        self._clock = clock
        self._condition = threading.Condition()
        self._serving: ModelT | None = None
        self._ready: ModelT | None = None
        self._in_hand: list[ModelT] = []  # one entry for each frame
        self._retired: list[ModelT] = []  # will serve no more, but a frame still has them in hand
        self._attempt: _Attempt[ModelT] | None = None
        self._thread: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        self._reloads, self._last_error = 0, ""

    @property
    def serving(self) -> ModelT | None:
        """The model that the next frame gets; None before `install`."""
        return self._serving

    @property
    def reloads(self) -> int:
        """Number of times that a model was exchanged."""
        return self._reloads

    @property
    def last_error(self) -> str:
        """Why the last reload failed; empty if it went well, and after `install`."""
        return self._last_error

    def install(self, model: ModelT) -> None:
        """Use `model` from the start."""
        with self._condition:
            self._serving, self._last_error = model, ""

    def clear(self) -> None:
        """Use no model any more. A reload that is under way is dropped."""
        self.drop()
        with self._condition:
            model, self._serving, self._last_error = self._serving, None, ""
        if model is not None:
            self._retire(model)
            del model
            self._tidy()

    @contextmanager
    def frame(self) -> Iterator[ModelT | None]:
        """Yield the model for one frame, or to describe it; it is not exchanged before the block ends.

        The result is None if no model is in use.
        """
        with self._condition:
            # Only a worker that never came back with its frame can have left an exchange to this one.
            self._exchange_if_ready()
            model = self._serving
            if model is not None:
                self._in_hand.append(model)
        try:
            yield model
        finally:
            if model is not None:
                self._put_down(model)

    def reload(self, load: Callable[[], ModelT], done: Callable[[Outcome], None], timeout_s: float = 0.0) -> None:
        """Start to load a model that is to replace the present one, and return at once.

        Args:
            load: makes the model, ready for its first frame; runs in a thread of its own. If it raises, the reload has
                failed and the present model stays in use.
            done: called once with the result, in any thread. A reload is refused at once while another one is under way
                and while no model is in use.
            timeout_s: the reload has failed if nothing is heard of it (`heard`) for so long, seconds; 0 = never. Its
                thread is left alone, and a model that comes all the same is released.
        """
        attempt = _Attempt(load, done, timeout_s, self._clock())
        with self._condition:
            refusal = self._refusal()
            if not refusal:
                self._attempt = attempt
                # A daemon: a back end that never comes back must not keep the process.
                self._thread = threading.Thread(target=self._run, args=(attempt,), name="hrda-reload", daemon=True)
                self._thread.start()
                if timeout_s:
                    self._watcher = threading.Thread(
                        target=self._watch, args=(attempt,), name="reload-watch", daemon=True
                    )
                    self._watcher.start()
        if refusal:
            done(Outcome(False, refusal))

    def heard(self) -> None:
        """Any thread: the reload that is under way lives; its time-out starts over."""
        with self._condition:
            if self._attempt is not None:
                self._attempt.heard_s = self._clock()

    def drop(self) -> None:
        """Drop a reload that is under way: its model will not be used. This does not wait for its thread."""
        with self._condition:
            attempt, self._attempt, self._ready = self._attempt, None, None
            self._condition.notify_all()
        if attempt is not None:
            attempt.done(Outcome(False, _DROPPED))

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads of the last reload; return False if they are still busy after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        threads = [thread for thread in (self._thread, self._watcher) if thread is not None]
        for thread in threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _refusal(self) -> str:
        """Why no reload can start now, empty where one can; the caller holds the lock."""
        if self._serving is None:
            return "no model serves yet: the configure transition loads the one that the parameter 'model' names"
        if self._attempt is not None:
            return "another reload is on its way; call again when it has ended"
        return ""

    def _run(self, attempt: _Attempt[ModelT]) -> None:
        """Thread of a reload."""
        self._load_and_exchange(attempt)
        attempt.replaced.clear()
        self._tidy()

    def _load_and_exchange(self, attempt: _Attempt[ModelT]) -> None:
        started_s = self._clock()
        try:
            model = attempt.load()
        except BaseException as error:  # whatever a back end raises, the old model is still there
            self._fail(attempt, reason_of(error))
            return
        with self._condition:
            if self._attempt is attempt:
                self._ready = model
                if not self._in_hand:
                    self._exchange_if_ready()
                self._condition.wait_for(lambda: self._ready is not model)
        if not attempt.replaced:  # dropped meanwhile
            self._retire(model)
            return
        (old,) = attempt.replaced
        attempt.done(Outcome(True, self._describe(old, model, self._clock() - started_s)))
        self._retire(old)

    def _fail(self, attempt: _Attempt[ModelT], reason: str) -> None:
        with self._condition:
            if self._attempt is not attempt:
                return
            self._attempt, self._ready, self._last_error = None, None, reason
            self._condition.notify_all()
        attempt.done(Outcome(False, f"the old model goes on serving: {reason}"))

    def _watch(self, attempt: _Attempt[ModelT]) -> None:
        """Thread: fail a reload of which nothing is heard any more."""
        with self._condition:
            while self._attempt is attempt:
                left_s = attempt.heard_s + attempt.timeout_s - self._clock()
                if left_s <= 0:
                    break
                self._condition.wait(left_s)
        self._fail(attempt, f"the new model has given no sign of life for {attempt.timeout_s:g} s (reload_timeout_s)")

    def _exchange_if_ready(self) -> None:
        """Let the loaded model serve; the caller holds the lock."""
        if self._ready is None or self._attempt is None or self._serving is None:
            return
        self._attempt.replaced.append(self._serving)
        self._serving, self._ready, self._attempt = self._ready, None, None
        self._reloads, self._last_error = self._reloads + 1, ""
        self._condition.notify_all()

    def _put_down(self, model: ModelT) -> None:
        """A frame has ended: the last one that has a retired model in hand releases it."""
        with self._condition:
            self._in_hand.remove(model)
            free = model in self._retired and model not in self._in_hand
            if free:
                self._retired.remove(model)
            if not self._in_hand:
                self._exchange_if_ready()
        if free:
            self._release(model)

    def _retire(self, model: ModelT) -> None:
        """Release a model that serves no more; the frame that still has it in hand does it where there is one."""
        with self._condition:
            if model in self._in_hand:
                self._retired.append(model)
                return
        self._release(model)
