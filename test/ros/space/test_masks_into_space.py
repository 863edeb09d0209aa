"""The whole way over real DDS: camera, depth, the real segment_node, points and a scan, wired as it is launched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import expected_confidence, expected_labels

pytest.importorskip("nav_msgs.msg")

HEIGHT, WIDTH = 48, 64
MASKS = ("labels", "confidence", "camera_info", "label_info")
"""What space.launch.py takes from segment_node."""


def test_a_picture_with_depth_becomes_points_with_the_classes_of_its_mask_and_a_scan(
    client: Any,
    start_node: Callable[..., Any],
    run_here: Callable[..., Any],
    wait_for_classes: Callable[[Any], None],
    tiny_bundle: Path,
    image_message: Callable[..., Any],
    plane_message: Callable[..., Any],
    info_message: Callable[..., Any],
    picture: Callable[..., np.ndarray],
) -> None:
    from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2

    from hrda_ros.space.cloud_node import CloudNode
    from hrda_ros.space.ground_node import GroundNode

    names = ("-r", "__ns:=/whole", "-r", "image:=camera/image_raw", "-p", "publish_confidence:=true")
    start_node(*names, "-p", f"model:={tiny_bundle}").wait_for_log("segmenting images")
    wired = [word for name in MASKS for word in ("-r", f"{name}:=segment_node/{name}")]
    cloud_node = run_here(CloudNode, "-r", "__ns:=/whole", *wired, "-p", "stride:=1", "-p", "use_confidence:=true")
    ground_node = run_here(GroundNode, "-r", "__ns:=/whole", *wired, "-p", "height_m:=1.0")
    clouds = client.collect(PointCloud2, "/whole/cloud_node/points")
    scans = client.collect(LaserScan, "/whole/ground_node/scan")
    camera = client.camera("/whole/camera/image_raw")
    infos = client.camera("/whole/camera/camera_info", CameraInfo)
    depths = client.camera("/whole/depth", Image)
    names = [f"/whole/segment_node/{name}" for name in MASKS]
    listening = {"labels": 2, "camera_info": 2, "label_info": 2, "confidence": 1}
    client.spin_until(
        lambda: all(client.node.count_subscribers(f"/whole/segment_node/{name}") == n for name, n in listening.items()),
        "the nodes in space",
    )
    client.spin_until(depths.get_subscription_count, "the subscription of the depth")
    client.meet("/whole/segment_node", camera, infos, outputs=names)
    for node in (cloud_node, ground_node):
        wait_for_classes(node)

    rgb = picture(HEIGHT, WIDTH)
    depth = np.random.default_rng(4).integers(500, 9000, (HEIGHT, WIDTH)).astype(np.uint16)
    image = image_message(rgb)
    depths.publish(plane_message(image.header, depth, "16UC1"))
    infos.publish(info_message(image.header, WIDTH, HEIGHT, focal=50.0))
    camera.publish(image)
    client.spin_until(lambda: clouds and scans, "a cloud and a scan")
    cloud = clouds[-1]
    assert cloud.header == image.header
    assert scans[-1].header.stamp == image.header.stamp
    assert (cloud.height, cloud.width, cloud.point_step) == (HEIGHT, WIDTH, 20)
    rows = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, 20)
    np.testing.assert_array_equal(rows[..., 16], expected_labels(rgb))
    np.testing.assert_array_equal(rows[..., 17], expected_confidence(rgb))
    z = rows[..., 8:12].copy().view("<f4")[..., 0]
    np.testing.assert_allclose(z, depth / 1000, rtol=1e-6)
