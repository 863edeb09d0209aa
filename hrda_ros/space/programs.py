"""Entries of the console scripts of this folder."""

from __future__ import annotations

import importlib

from hrda_core.errors import HrdaError
from hrda_ros.start.requirements import check_requirements
from hrda_ros.start.stop_signals import StopSignals
from hrda_ros.start.streams import open_streams, tell, wait_for_no_reader

__all__ = ["cloud_node", "ground_node"]


def cloud_node(args: list[str] | None = None) -> int:
    """Run `cloud_node`; exit code as `hrda_ros.start.process.run_node`, and 2 if something does not import."""
    return _run("cloud_node", "CloudNode", args)


def ground_node(args: list[str] | None = None) -> int:
    """Run `ground_node`; exit code as `hrda_ros.start.process.run_node`, and 2 if something does not import."""
    return _run("ground_node", "GroundNode", args, "nav_msgs.msg")


def _run(name: str, class_name: str, args: list[str] | None, *packages: str) -> int:
    open_streams()
    wait_for_no_reader()
    with StopSignals() as signals:
        signals.end_soon()
        try:
            check_requirements(*packages)
        except HrdaError as error:
            tell(f"{name}: {error}")
            return 2
        from hrda_ros.start.process import run_node

        make_node = getattr(importlib.import_module(f"hrda_ros.space.{name}"), class_name)
        return 0 if signals.seen else run_node(name, make_node, args=args, signals=signals)
