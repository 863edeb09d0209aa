"""Entry of the console script `segment_node` and of `python -m hrda_ros`.

Importing rclpy takes about a second. An interrupt in that time ends the process as quietly as a later one does.
"""

from __future__ import annotations

import signal
import sys

__all__ = ["main"]


def main(args: list[str] | None = None) -> int:
    """Import and run the node; exit code as `hrda_ros.process.run_node`."""
    # rclpy installs its own handlers later; until then a service manager's stop is treated like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from hrda_ros.process import run_node

        return run_node(args)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
