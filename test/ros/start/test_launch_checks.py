"""What the launch files refuse before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hrda_ros.start.launch_checks import (
    camera_names,
    camera_topic,
    camera_topics,
    check_arguments,
    check_parameters_file,
    ended_badly,
    profile_variables,
    rviz_remappings,
    started_by_name,
    view_of_compressed,
)

DECLARED = ("image", "model", "params_file", "rviz")


@pytest.mark.parametrize(
    ("command", "itself"),
    [
        (["ros2", "launch", "hrda_ros", "segment.launch.py", "image:=/front"], True),
        (["ros2", "launch", "/ws/install/hrda_ros/share/hrda_ros/launch/segment.launch.py"], True),
        (["ros2", "launch", "my_robot", "bringup.launch.py", "file:=segment.launch.py"], False),
        (["ros2", "launch", "hrda_ros", "segment_cameras.launch.py", "cameras:=front"], False),
    ],
)
def test_a_file_knows_whether_it_was_launched_itself(command: list[str], itself: bool) -> None:
    assert started_by_name("segment.launch.py", command) == itself


def test_known_arguments_and_those_of_ros2_launch_pass() -> None:
    check_arguments(["image:=/a", "model:=b:=c", "launch-prefix:=gdb", "rviz:="], DECLARED)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("imge:=/front/image_raw", "there is no launch argument 'imge'; did you mean 'image'?"),
        ("threads:=2", "there is no launch argument 'threads'; choose from image, model, params_file, rviz"),
    ],
)
def test_p8_c7_a_misspelt_argument_is_refused_with_the_nearest_name(word: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        check_arguments([word], DECLARED)
    assert sentence in str(caught.value)
    assert "params_file:=" in str(caught.value)


def test_c7_a_parameters_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "segment.yaml"
    there.write_text("{}")
    check_parameters_file(str(there))
    with pytest.raises(ValueError, match=r"params_file '.*absent.yaml' is not a file"):
        check_parameters_file(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("distribution", "name"),
    [("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"), ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE")],
)
def test_the_profile_is_the_users_or_none_or_left_to_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str, name: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    profile = tmp_path / "profile.xml"
    profile.write_text("<dds/>")
    assert profile_variables("") == {}
    assert profile_variables("none") == {"HRDA_FASTDDS_PROFILE": "none"}
    assert profile_variables(str(profile)) == {name: str(profile)}
    with pytest.raises(ValueError, match=r"fastdds_profile 'nowhere\.xml' is not a file"):
        profile_variables("nowhere.xml")


def test_only_an_error_that_nobody_asked_for_ends_the_launch() -> None:
    assert ended_badly(0, shutting_down=False) is None
    assert ended_badly(-9, shutting_down=True) is None
    sentence = ended_badly(2, shutting_down=False)
    assert sentence is not None
    assert "exit code 2" in sentence


def test_c7_names_of_cameras_are_namespaces() -> None:
    assert camera_names("front, rear_left,/roof/wide") == ["front", "rear_left", "roof/wide"]


def test_each_camera_has_a_topic_of_its_own() -> None:
    assert camera_topic("front", "image_raw") == "/front/image_raw"
    with pytest.raises(ValueError, match="image '/camera' begins with a slash"):
        camera_topic("front", "/camera")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" , ", "cameras is empty"),
        ("front,2nd", "'2nd' cannot be a namespace"),
        ("a b", "'a b' cannot be a namespace"),
        ("front,front", "camera 'front' stands in cameras twice"),
    ],
)
def test_c7_names_that_cannot_be_namespaces_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".*") as caught:
        camera_names(text)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("image", "namespace", "topic"),
    [
        ("/camera/image_raw", "front", "/camera/image_raw/compressed"),
        ("image_raw", "/front", "/front/image_raw/compressed"),
        ("image_raw", "", "/image_raw/compressed"),
    ],
)
def test_the_camera_panel_of_the_shipped_view_reads_jpeg(
    repository: Path, image: str, namespace: str, topic: str
) -> None:
    view = (repository / "config" / "rviz" / "segment.rviz").read_text(encoding="utf-8")

    def topics(text: str) -> list[str]:
        displays = yaml.safe_load(text)["Visualization Manager"]["Displays"]
        return [display["Topic"]["Value"] for display in displays]

    assert topics(view).count("image") == 1
    expected = [topic if name == "image" else name for name in topics(view)]
    assert topics(view_of_compressed(view, image, namespace)) == expected


def test_cameras_of_one_node_have_topics_within_its_namespace_and_rviz_shows_the_first() -> None:
    topics = camera_topics("front, rear", "color/image_raw")
    assert topics == {"front": "front/color/image_raw", "rear": "rear/color/image_raw"}
    assert rviz_remappings(topics) == [
        ("image", "front/color/image_raw"),
        ("segment_node/overlay", "segment_node/front/overlay"),
        ("segment_node/labels", "segment_node/front/labels"),
    ]
    assert camera_topics("", "image") == {}
    assert rviz_remappings({}) == []
    with pytest.raises(ValueError, match="begins with a slash, so all cameras would share it"):
        camera_topics("front", "/camera")
