"""Reads the figures of the demo from the node's diagnostics. docs/robot/node.md lists the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from street_demo.errors import ChildFailedError
from street_demo.summary import DROP_CAUSES

__all__ = ["NodeReport"]


@dataclass(frozen=True)
class NodeReport:
    """The node's own figures.

    Attributes:
        counters: what became of the frames: published, stale, superseded, refused, failed.
        backend: description of the back end.
        inference_ms_p50: median duration of an inference; None if the node did not say.
    """

    counters: dict[str, int]
    backend: str
    inference_ms_p50: float | None

    @classmethod
    def read(cls, values: Mapping[str, str]) -> NodeReport:
        """Read the figures from the key-values of the node's statuses.

        Raises:
            ChildFailedError: a counter is missing.
        """
        try:
            counters = {name: int(values[name]) for name in ("published", *DROP_CAUSES)}
        except (KeyError, ValueError) as error:
            raise ChildFailedError(
                f"the node's diagnostics lack a counter ({error}); node and demo are of different versions, "
                f"install the package again"
            ) from error
        inference = values.get("infer_ms_p50", "n/a")
        return cls(counters, values.get("backend", "not reported"), None if inference == "n/a" else float(inference))
