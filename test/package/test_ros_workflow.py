"""The workflow and the Dockerfile for machines with the internet: neither runs here, so what they call is checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hrda_training.__main__ import VERBS

REPOSITORY = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "ros.yml").read_text(encoding="utf-8"))
JOB: dict[str, Any] = WORKFLOW["jobs"]["robot"]
STEPS = [step for step in JOB["steps"] if "run" in step]
DOCKERFILE = (REPOSITORY / "docker" / "Dockerfile").read_text(encoding="utf-8")
INSTRUCTIONS = {
    instruction.split()[0]: instruction.split(maxsplit=1)[1]
    for instruction in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    if instruction
}
INSIDE = "src/hrda_ros/"
"""Where the tree lies in the workspace, in both."""


def scripts() -> list[tuple[str, str]]:
    """(place, shell script) of all that both run."""
    runs = re.findall(r"^RUN (.*)$", re.sub(r"\\\n", " ", DOCKERFILE), re.MULTILINE)
    found = [(step["name"], re.sub(r"\$\{\{ matrix\.distro \}\}", "jazzy", step["run"])) for step in STEPS]
    return [*found, *(("Dockerfile", script) for script in runs)]


def test_every_distribution_is_walked() -> None:
    table = yaml.safe_load((REPOSITORY / "test" / "package" / "rosdep_keys.yaml").read_text(encoding="utf-8"))
    assert JOB["strategy"]["matrix"]["distro"] == table["distributions"]
    assert JOB["container"] == "ros:${{ matrix.distro }}"


def test_the_tree_lies_where_the_steps_look_for_it() -> None:
    (checkout,) = [step for step in JOB["steps"] if step.get("uses", "").startswith("actions/checkout@")]
    assert checkout["with"]["path"] == f"ros_ws/{INSIDE.rstrip('/')}"
    assert all(step["working-directory"] == "ros_ws" for step in STEPS)


@pytest.mark.parametrize(("place", "script"), scripts(), ids=lambda text: text[:30])
def test_bash_can_read_every_script(place: str, script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
    assert done.returncode == 0, f"{place}: {done.stderr}"


@pytest.mark.parametrize(("place", "script"), scripts(), ids=lambda text: text[:30])
def test_what_a_script_names_is_in_the_tree(place: str, script: str) -> None:
    for name in re.findall(rf"{INSIDE}([\w./-]+)", script):
        assert (REPOSITORY / name).exists(), f"{place}: {name}"
    for name in re.findall(r"(?<=\s)(test/\w+)", script):
        assert (REPOSITORY / name).is_dir(), f"{place}: {name}"
    launch = (REPOSITORY / "launch" / "segment.launch.py").read_text(encoding="utf-8")
    for argument in re.findall(r"(\w+):=", script):
        assert f'"{argument}"' in launch, f"{place}: launch argument {argument}"
    for verb in re.findall(r"hrda_ros hrda ([\w-]+)", script):
        assert verb in VERBS, f"{place}: {verb}"


def test_programs_that_they_start_may_be_executed() -> None:
    started = {name for _, script in scripts() for name in re.findall(rf"(?:^|&& |\s){INSIDE}(tools/\w+)", script)}
    assert started == {"tools/robot_setup"}
    assert all(os.access(REPOSITORY / name, os.X_OK) for name in started)


def test_both_walk_the_lines_of_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("## On a robot")[1].split("```")[1]
    walked = "\n".join(script for _, script in scripts())
    for line in readme.splitlines()[2:]:
        program = line.split("#")[0].split("&&")[0].split()[:2]
        assert " ".join(program) in walked, line


def test_the_recording_that_is_played_has_the_topic_that_the_node_listens_to() -> None:
    metadata = yaml.safe_load((REPOSITORY / "demo" / "street_day_dusk" / "metadata.yaml").read_text(encoding="utf-8"))
    topics = metadata["rosbag2_bagfile_information"]["topics_with_message_count"]
    names = {topic["topic_metadata"]["name"]: topic["message_count"] for topic in topics}
    walk = "\n".join(script for _, script in scripts())
    image = re.findall(r"image:=(\S+)", walk)
    assert [f"{name}/compressed" for name in image] == list(names)
    assert "of 101 frames" in walk
    assert list(names.values()) == [101]


def test_the_dockerfile_copies_what_is_there_and_leaves_environments_out() -> None:
    copied = re.findall(r"^COPY (\S+) (\S+)$", DOCKERFILE, re.MULTILINE)
    assert [source for source, _ in copied] == ["package.xml", "."]
    assert all(target == INSIDE for _, target in copied)
    ignored = (REPOSITORY / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    # Adaptation needs torch, which the image has not, so it has no use for the source pack.
    assert {".git", ".venv", ".venv-demo", "packs"} <= set(ignored)
    assert not [name for name in ignored if (REPOSITORY / name).is_dir() and name in ("models", "hrda_core", "config")]


def test_the_image_launches_the_node_with_the_arguments_behind_its_name() -> None:
    entry = json.loads(INSTRUCTIONS["ENTRYPOINT"])
    script = entry[2].replace("source /ros_ws/install/setup.bash && exec ros2", "printf '%s\\n'")
    done = subprocess.run([*entry[:2], script, entry[3], "image:=/cam"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["launch", "hrda_ros", "segment.launch.py", "image:=/cam"]


def test_both_say_that_they_were_not_run_here() -> None:
    assert "never ran this file" in (REPOSITORY / ".github" / "workflows" / "ros.yml").read_text(encoding="utf-8")
    assert "could not build this" in DOCKERFILE
    page = (REPOSITORY / "docs" / "robot" / "install.md").read_text(encoding="utf-8")
    assert "**We ran neither it nor `docker/Dockerfile`**" in page
