"""Record what the segmentation node publishes, message bytes untouched.

    python demo/record_masks.py --masks OUT/masks --overlay WORK/overlay [--node segment_node]

It writes two bags: masks, label info and diagnostics (to keep), and the overlay pictures (raw, for the video). It
prints events (street_demo/events.py): `ready` once the node's publishers have found this recorder, `mask` with stamp
and time of arrival, `diagnostics`, and `closed`. It ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from street_demo.events import emit

from hrda_core.data.recordings.mask_recording import RecordingWriter
from hrda_core.data.recordings.recorded_image import IMAGE, header_stamp
from hrda_core.standard_streams import with_streams

QUEUE_DEPTH = 20
"""Masks that may wait while a chunk of the bag is compressed."""


class MaskRecorder:
    """Subscriptions of one segmentation node, and the bags that they fill."""

    def __init__(self, node: Node, source: str, masks: Path, overlay: Path) -> None:
        self._masks, self._overlay = RecordingWriter(masks), RecordingWriter(overlay, compress=False)
        self._source = source
        self._newest_ns = 0
        self._waiting: list[tuple[str, str, bytes, bool]] = []
        reliable = QoSProfile(depth=QUEUE_DEPTH)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        node.create_subscription(Image, f"/{source}/labels", self._on_labels, reliable, raw=True)
        node.create_subscription(Image, f"/{source}/overlay", self._on_overlay, reliable, raw=True)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, reliable, raw=True)
        # Last on purpose. A latched message proves that the node knows this subscription; readers are announced in
        # the order of their creation, so it then knows the others too and no first mask is lost to discovery.
        node.create_subscription(String, f"/{source}/label_info", self._on_label_info, latched, raw=True)

    def close(self) -> None:
        """Finish both bags."""
        self._masks.close()
        self._overlay.close()

    def _on_labels(self, raw: bytes) -> None:
        received_ns = time.monotonic_ns()
        stamp = header_stamp(raw, False)
        self._newest_ns = stamp
        self._write_waiting()
        self._masks.write(f"/{self._source}/labels", IMAGE, stamp, raw)
        emit("mask", stamp=stamp, time_ns=received_ns)

    def _on_overlay(self, raw: bytes) -> None:
        self._overlay.write(f"/{self._source}/overlay", IMAGE, header_stamp(raw, False), raw)

    def _on_diagnostics(self, raw: bytes) -> None:
        self._write_beside("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", raw)
        for status in deserialize_message(raw, DiagnosticArray).status:
            values = {item.key: item.value for item in status.values}
            emit("diagnostics", level=status.level[0], message=status.message, values=values)

    def _on_label_info(self, raw: bytes) -> None:
        self._write_beside(f"/{self._source}/label_info", "std_msgs/msg/String", raw, latched=True)
        emit("ready", label_info=deserialize_message(raw, String).data)

    def _write_beside(self, topic: str, kind: str, raw: bytes, *, latched: bool = False) -> None:
        """Log what has no camera stamp beside the newest mask; before the first one it waits."""
        self._waiting.append((topic, kind, raw, latched))
        if self._newest_ns:
            self._write_waiting()

    def _write_waiting(self) -> None:
        for topic, kind, raw, latched in self._waiting:
            self._masks.write(topic, kind, self._newest_ns, raw, latched=latched)
        self._waiting.clear()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--masks", type=Path, required=True, help="bag folder to write: masks and diagnostics")
    parser.add_argument("--overlay", type=Path, required=True, help="bag folder to write: overlay pictures")
    parser.add_argument("--node", default="segment_node", help="name of the node to record (default: %(default)s)")
    options = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("mask_recorder")
    recorder = MaskRecorder(node, options.node, options.masks, options.overlay)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.1)
    finally:
        recorder.close()
        node.destroy_node()
        rclpy.try_shutdown()
    emit("closed")
    return 0


if __name__ == "__main__":
    sys.exit(with_streams(main, "record_masks"))
