"""config/: the parameter file, the Fast DDS profile, and the RViz view fit the node."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest
import yaml

from hrda_ros.settings.parameters import PARAMETERS

NODE = "segment_node"
IMAGE_OUTPUTS = {"labels", "color", "overlay", "confidence"}
NAMESPACE = {"dds": "http://www.eprosima.com"}
BYTES_OF_A_4K_FRAME = 3840 * 2160 * 3


@pytest.fixture(scope="module")
def parameters(repository):
    document = yaml.safe_load((repository / "config" / "segment.yaml").read_text(encoding="utf-8"))
    assert list(document) == ["/**"], "keyed so that any node name and namespace fits"
    return document["/**"]["ros__parameters"]


@pytest.fixture(scope="module")
def profile(repository):
    return ElementTree.parse(repository / "config" / "fastdds_large_images.xml").getroot()


@pytest.fixture(scope="module")
def displays(repository):
    document = yaml.safe_load((repository / "config" / "rviz" / "segment.rviz").read_text(encoding="utf-8"))
    return document["Visualization Manager"]["Displays"]


def test_parameter_file_names_exactly_the_parameters_of_the_node(parameters):
    assert list(parameters) == [spec.name for spec in PARAMETERS]


@pytest.mark.parametrize("spec", PARAMETERS, ids=lambda spec: spec.name)
def test_parameter_file_states_the_default(parameters, spec):
    value = parameters[spec.name]
    assert type(value) is type(spec.default)
    assert value == spec.default


def test_every_parameter_in_the_file_has_a_comment_with_its_moment(repository):
    text = (repository / "config" / "segment.yaml").read_text(encoding="utf-8")
    for spec in PARAMETERS:
        comment = re.search(rf"((?:^    # .*\n)+)    {spec.name}:", text, re.MULTILINE)
        assert comment, f"{spec.name} has no comment"
        assert comment.group(1).rstrip().endswith(f"[{spec.applied}]"), spec.name
        if spec.limits:
            for limit in spec.limits:
                assert f"{limit:g}" in comment.group(1), f"the comment of {spec.name} does not state its range"


def test_profile_makes_a_participant_the_default(profile):
    (participant,) = profile.iter("{http://www.eprosima.com}participant")
    assert participant.get("is_default_profile") == "true"
    used = [element.text for element in participant.iterfind(".//dds:userTransports/dds:transport_id", NAMESPACE)]
    defined = [element.text for element in profile.iterfind(".//dds:transport_descriptor/dds:transport_id", NAMESPACE)]
    assert used == defined


def test_profile_holds_two_4k_frames_and_keeps_udp(profile):
    by_type = {
        descriptor.find("dds:type", NAMESPACE).text: descriptor
        for descriptor in profile.iterfind(".//dds:transport_descriptor", NAMESPACE)
    }
    assert set(by_type) == {"SHM", "UDPv4"}
    assert int(by_type["SHM"].find("dds:segment_size", NAMESPACE).text) >= 2 * BYTES_OF_A_4K_FRAME
    assert int(by_type["SHM"].find("dds:maxMessageSize", NAMESPACE).text) >= BYTES_OF_A_4K_FRAME


def test_rviz_shows_overlay_class_ids_and_camera(displays):
    assert [display["Class"] for display in displays] == ["rviz_default_plugins/Image"] * 3
    topics = [display["Topic"]["Value"] for display in displays]
    assert topics == [f"{NODE}/overlay", f"{NODE}/labels", "image"]


def test_rviz_topics_are_relative_so_that_a_namespace_fits(displays):
    for display in displays:
        topic = display["Topic"]["Value"]
        assert not topic.startswith("/")
        node, _, output = topic.rpartition("/")
        assert (node, output) == ("", "image") or (node == NODE and output in IMAGE_OUTPUTS)


def test_rviz_subscribes_so_that_it_matches_every_publisher(displays):
    for display in displays:
        topic = display["Topic"]
        assert topic["Reliability Policy"] == "Best Effort"
        assert topic["Durability Policy"] == "Volatile"
        assert topic["History Policy"] == "Keep Last"
        assert topic["Depth"] == 1
