"""Entry of the console script `segment_node` and of `python -m hrda_ros`.

Importing rclpy and OpenCV takes about a second. A signal in that time is obeyed as soon as the imports are done, or
soon where they take long.
"""

from __future__ import annotations

import sys

from hrda_core.errors import HrdaError
from hrda_core.memory import share_one_pool
from hrda_ros.start.requirements import check_requirements
from hrda_ros.start.stop_signals import StopSignals
from hrda_ros.start.streams import open_streams, tell, wait_for_no_reader

__all__ = ["main"]


def main(args: list[str] | None = None) -> int:
    """Import and run the node; exit code as `hrda_ros.start.process.run_node`, and 2 if something does not import."""
    open_streams()
    wait_for_no_reader()
    with StopSignals() as signals:
        share_one_pool()
        signals.end_soon()
        try:
            check_requirements()
        except HrdaError as error:
            tell(f"segment_node: {error}")
            return 2
        from hrda_ros.segment_node import SegmentNode, autostart
        from hrda_ros.start.process import run_node

        return 0 if signals.seen else run_node("segment_node", SegmentNode, autostart, args, signals=signals)


if __name__ == "__main__":
    sys.exit(main())
