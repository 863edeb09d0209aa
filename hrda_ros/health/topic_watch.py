"""Explains why no image arrives: what the ROS graph says about the topic, in one warning with the next thing to try."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["explain_silence"]

_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_VIDEO_TYPES = ("foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket")
_NOT_LIVE = "a video, which is not decoded live: republish it as raw images"
_LISTED_TOPICS = 8


def explain_silence(node: Any, topic: str, type_name: str, qos: Any, silent_s: float, camera: str = "") -> str:
    """Return a warning about a subscription that gets nothing.

    Args:
        node: the `rclpy` node that subscribes.
        topic: fully resolved topic.
        type_name: message type that the node expects, as the graph spells it.
        qos: the subscription's QoS profile.
        silent_s: seconds without a message.
        camera: name of the camera, whose parameter names the topic; empty = it is remapped.

    Returns:
        one line: publishers of the topic with their QoS and what does not fit, or, without any publisher, the image
        topics that do exist.
    """
    publishers = node.get_publishers_info_by_topic(topic)
    start = f"no image on '{topic}' for {silent_s:.0f} s"
    if not publishers:
        return f"{start}: nobody publishes it; {_other_topics(node, topic, camera)}"
    listed = [_describe(info, type_name, qos) for info in publishers]
    text = f"{start}, although it has {len(listed)} publisher(s): {'; '.join(text for text, _ in listed)}"
    if any(fits for _, fits in listed):
        text += (
            ". If the camera runs, large frames may be lost on the way: its process needs the Fast DDS profile "
            "config/fastdds_large_images.xml, see docs/robot/troubleshooting.md"
        )
    return text


def _describe(info: Any, type_name: str, qos: Any) -> tuple[str, bool]:
    """(publisher with QoS and verdict, whether it fits the subscription)."""
    problem: str | None
    if info.topic_type in _VIDEO_TYPES:
        problem = f"publishes {info.topic_type}, {_NOT_LIVE}"
    elif info.topic_type != type_name:
        problem = f"publishes {info.topic_type}, this node expects {type_name} (parameter image_transport)"
    else:
        problem = _qos_problem(info.qos_profile, qos)
    verdict = problem or "compatible"
    return f"{_node_name(info)} ({qos_text(info.qos_profile)}: {verdict})", problem is None


def _qos_problem(publisher: Any, subscription: Any) -> str | None:
    from rclpy.qos import QoSCompatibility, qos_check_compatible

    compatibility, reason = qos_check_compatible(publisher, subscription)
    return f"incompatible QoS, {reason.strip()}" if compatibility == QoSCompatibility.ERROR else None


def _other_topics(node: Any, topic: str, camera: str) -> str:
    own = node.get_fully_qualified_name() + "/"
    names = [
        (name, types[0])
        for name, types in node.get_topic_names_and_types()
        if types and types[0] in (*_IMAGE_TYPES, *_VIDEO_TYPES) and name != topic and not name.startswith(own)
    ]
    described = []
    for name, kind in _most_alike(topic, names)[:_LISTED_TOPICS]:
        publishers = [
            f"{_node_name(info)}, {qos_text(info.qos_profile)}" for info in node.get_publishers_info_by_topic(name)
        ]
        if publishers:
            what = f", {_NOT_LIVE}" if kind in _VIDEO_TYPES else ""
            described.append(f"{name} [{kind.rsplit('/')[-1]}{what}] from {' and '.join(publishers)}")
    if not described:
        return (
            "no other image topic has a publisher either: is the camera driver running, with the same ROS_DOMAIN_ID "
            "and discovery range as this node?"
        )
    cure = f"Set the parameter {camera}.image" if camera else "Remap with '-r image:=TOPIC'"
    return f"image topics with publishers: {'; '.join(described)}. {cure}"


def _most_alike(topic: str, names: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(names, key=lambda entry: -difflib.SequenceMatcher(None, topic, entry[0]).ratio())


def _node_name(info: Any) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


def qos_text(profile: Any) -> str:
    """Return reliability and durability of a QoS profile, for people."""
    return " ".join(policy.name.lower() for policy in (profile.reliability, profile.durability))
