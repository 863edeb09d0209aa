"""The classes of the masks that come in, as `~/label_info` tells them. Needs no rclpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hrda_core.errors import LabelSpaceError, TextError
from hrda_core.labels import IGNORE_LABEL, LabelSpace
from hrda_core.untrusted_text import parse_json
from hrda_ros.frames.stamp_sets import Stamp

__all__ = ["ServedClasses", "check_ids"]


def check_ids(labels: npt.NDArray[np.uint8], space: LabelSpace) -> None:
    """Check that every id of a mask is a class of the space, or `IGNORE_LABEL`.

    What has no name would be no obstacle and no road: a robot would drive into it.

    Raises:
        LabelSpaceError: the mask is of a model with more classes.
    """
    if int(labels.max()) < len(space):
        return
    beyond = labels[(labels >= len(space)) & (labels != IGNORE_LABEL)]
    if beyond.size:
        raise LabelSpaceError(
            f"the mask has the class id {beyond.max()}, but label_info names {len(space)} classes ('{space.name}'); "
            f"remap labels and label_info to the same segment_node"
        )


class ServedClasses:
    """Which classes the mask of a stamp has.

    A reload can change the classes. The information about the new model then says the stamp of its first mask; masks
    before that one are still in the old classes. Information without a word on that, of a recording or somebody's own
    node, counts at once.
    """

    def __init__(self) -> None:
        self._newest: tuple[LabelSpace, Stamp | None] | None = None
        self._before: LabelSpace | None = None

    def offer(self, text: str) -> LabelSpace:
        """Take the text of `~/label_info` and return its classes.

        Raises:
            LabelSpaceError: the text is no label information.
        """
        try:
            values = parse_json(text)
            rows = sorted(values["classes"], key=lambda row: row["id"])
            space = LabelSpace.from_dict(
                {
                    "name": values["label_space"],
                    "classes": [row["name"] for row in rows],
                    "palette": [row["color"] for row in rows],
                    "things": [row["id"] for row in rows if row.get("thing")],
                }
            )
            if [row["id"] for row in rows] != list(range(len(rows))):
                raise LabelSpaceError("ids must be 0, 1, 2 and so on")
            stamp = values.get("first_stamp")
            first = None if stamp is None else (int(stamp["sec"]), int(stamp["nanosec"]))
        except (
            ArithmeticError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            LabelSpaceError,
            TextError,
        ) as error:
            raise LabelSpaceError(
                f"label_info is not what segment_node publishes ({error!r}); remap label_info to its topic"
            ) from error
        if "first_stamp" not in values:
            self._before = None
        elif self._newest is not None and self._newest[0] != space:
            self._before = self._newest[0]
        self._newest = (space, first)
        return space

    def settle(self) -> None:
        """Note that no mask is on its way: where the newest model has begun, its classes alone count from now on."""
        if self._newest is not None and self._newest[1] is not None:
            self._before = None

    def at(self, stamp: Stamp) -> LabelSpace | None:
        """Return the classes of the mask with this stamp; None before any information has come. Masks come in order."""
        if self._newest is None:
            return None
        space, first = self._newest
        if first is not None and stamp >= first:
            self._before = None  # its last mask is past, whatever the clock does from now on
        return self._before or space
