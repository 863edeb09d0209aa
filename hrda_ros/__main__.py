"""Entry of the console script `segment_node` and of `python -m hrda_ros`.

Importing rclpy and OpenCV takes about a second. A signal in that time is obeyed as soon as the imports are done.
"""

from __future__ import annotations

import sys

from hrda_core.errors import HrdaError
from hrda_ros.requirements import check_requirements
from hrda_ros.stop_signals import StopSignals

__all__ = ["main"]


def main(args: list[str] | None = None) -> int:
    """Import and run the node; exit code as `hrda_ros.process.run_node`, and 2 if something does not import."""
    signals = StopSignals()
    try:
        check_requirements()
    except HrdaError as error:
        print(f"segment_node: {error}", file=sys.stderr)
        return 2
    from hrda_ros.process import run_node

    return 0 if signals.seen else run_node(args, signals)


if __name__ == "__main__":
    sys.exit(main())
