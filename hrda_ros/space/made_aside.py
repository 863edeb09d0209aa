"""What is made once for a camera and takes long for a large image is made in a thread: meanwhile the node answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from hrda_core.errors import HrdaError, reason_of

__all__ = ["MadeAside"]

Made = TypeVar("Made")

_PATIENCE_S = 0.5
"""So long a mask waits for what it needs; a usual camera's is made in that time, and no mask is left out."""


class MadeAside(Generic[Made]):
    """Keeps the newest thing that was made, and what it was made for.

    Args:
        name: what it is, for the sentence on masks that it comes too late for.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._wanted: object = None
        self._made: Made | None = None
        self._why_not, self._lasts = "", False
        self._thread: threading.Thread | None = None

    def get(self, wanted: object, make: Callable[[], Made]) -> Made:
        """Return what was made for `wanted`, or begin to make it. Only one thing is in the making at a time.

        Args:
            wanted: what it is made for; compared with `==`.
            make: makes it, in a thread.

        Raises:
            HrdaError: it is not made yet, or cannot be made.
        """
        if self._wanted != wanted and not self._at_work():
            self._begin(wanted, make)
        if self._thread is not None and self._wanted == wanted:
            self._thread.join(_PATIENCE_S)
        if self._at_work():
            raise HrdaError(
                f"{self._name} is still being made, which takes seconds for a large image with distortion, or for each "
                f"new pose; masks are left out until then (masks_size: network on segment_node makes smaller ones)"
            )
        if self._made is not None:
            return self._made
        if not self._lasts:
            self._wanted = None  # memory that was short, say: the next mask tries again
        raise HrdaError(self._why_not)

    def _at_work(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, wanted: object, make: Callable[[], Made]) -> None:
        self._wanted, self._made = wanted, None
        # By this beginning of its name a process that ends knows that it may be in native code.
        self._thread = threading.Thread(target=self._run, args=(make,), name="hrda-made-aside", daemon=True)
        self._thread.start()

    def _run(self, make: Callable[[], Made]) -> None:
        try:
            self._made = make()
        except Exception as error:
            self._why_not, self._lasts = reason_of(error), isinstance(error, HrdaError)
