"""setup.py: version, extras, entry points, and that everything that belongs on a robot gets installed."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

SHOW = """
import json, sys, setuptools
shown = {}
setuptools.setup = lambda **values: shown.update(values)
exec(compile(open('setup.py').read(), 'setup.py', 'exec'), {'__file__': 'setup.py', '__name__': '__main__'})
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def described(repository):
    """The keyword arguments that setup.py gives to setuptools, without running a build, where no ROS is sourced."""
    return describe(repository)


def describe(repository, **variables):
    import json

    environment = {name: value for name, value in os.environ.items() if name != "AMENT_PREFIX_PATH"} | variables
    command = [sys.executable, "-W", "ignore", "-c", SHOW]
    done = subprocess.run(command, cwd=repository, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def installed(described):
    """File name in the source tree -> folder below the prefix."""
    return {name: folder for folder, names in described["data_files"] for name in names}


def test_version_is_that_of_hrda_core(described):
    import hrda_core

    assert described["version"] == hrda_core.__version__


def test_base_install_asks_for_setuptools_only(described):
    assert described["install_requires"] == ["setuptools"]


def test_extras_are_the_documented_ones(described):
    assert set(described["extras_require"]) == {
        "runtime",
        "ros",
        "bag",
        "video",
        "train",
        "openvino",
        "fleet",
        "tensorrt",
        "test",
    }


def test_files_that_code_reads_are_installed_beside_it_with_the_bytes_of_the_source_tree(described, repository):
    from hrda_core.adaptation.verdict.track_record import PATH
    from hrda_training.compare_server import PAGE

    folders = {"hrda_core": "hrda_core", **described["package_dir"]}
    files = [(package, name) for package, names in described["package_data"].items() for name in names]
    installed = [Path(importlib.import_module(package).__file__).parent / name for package, name in files]
    assert sorted(installed) == sorted([PATH, PAGE])
    for (package, name), path in zip(files, installed, strict=True):
        assert path.read_bytes() == (repository / folders[package] / name).read_bytes()


def test_colcon_finds_pytest_in_the_test_extra(described):
    assert any(requirement.startswith("pytest") for requirement in described["extras_require"]["test"])


def test_ros_wheels_are_for_every_python_on_their_platform(described):
    for requirement in described["extras_require"]["ros"]:
        assert requirement.endswith('; platform_machine == "x86_64" and sys_platform == "linux"')


def test_ros_wheels_cannot_hide_a_sourced_distribution(repository):
    extras = describe(repository, AMENT_PREFIX_PATH="/opt/ros/jazzy")["extras_require"]
    assert extras["ros"] == []
    assert extras["runtime"]


def test_only_training_brings_torch(described):
    for extra in ("runtime", "ros", "bag", "openvino", "fleet", "tensorrt"):
        names = [requirement.lower() for requirement in described["extras_require"][extra]]
        assert not [name for name in names if name.startswith(("torch", "timm"))]


def test_opencv_stays_below_5(described):
    # cv_bridge computes OpenCV's type numbers with the layout of OpenCV 4.
    for extra in ("runtime", "train"):
        (opencv,) = [name for name in described["extras_require"][extra] if name.startswith("opencv")]
        assert opencv.endswith(",<5")


def test_every_python_package_is_installed(repository, described):
    expected = set()
    for folder, name in (("hrda_core", "hrda_core"), ("hrda_ros", "hrda_ros"), ("training", "hrda_training")):
        for path in (repository / folder).rglob("__init__.py"):
            expected.add(".".join([name, *path.parent.relative_to(repository / folder).parts]))
    assert set(described["packages"]) == expected


def test_every_python_folder_is_a_package(repository):
    for name in ("hrda_core", "hrda_ros"):
        for path in (repository / name).rglob("*.py"):
            assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py, so it is not installed"


@pytest.mark.parametrize("folder", ["launch", "test"])
def test_folder_is_no_python_package(repository, folder):
    # With an __init__.py, launch/ would hide ROS's own package `launch`.
    assert not (repository / folder / "__init__.py").exists()


def test_no_file_is_installed_twice(described):
    names = [name for _, rows in described["data_files"] for name in rows]
    assert sorted(names) == sorted(set(names))


def test_marker_and_manifest_are_installed(installed):
    assert installed["resource/hrda_ros"] == "share/ament_index/resource_index/packages"
    assert installed["package.xml"] == "share/hrda_ros"


def test_launch_and_config_files_are_installed(repository, installed):
    files = [*(repository / "launch").glob("*.launch.py"), *(repository / "config").rglob("*")]
    for path in files:
        if path.is_file():
            name = path.relative_to(repository)
            assert installed.get(name.as_posix()) == f"share/hrda_ros/{name.parent.as_posix()}", f"{name} not installed"


def test_bundles_are_installed_without_engines(repository, installed):
    for path in (repository / "models").glob("*/**/*"):
        if path.is_file() and "engines" not in path.parts:
            name = path.relative_to(repository)
            assert installed.get(name.as_posix()) == f"share/hrda_ros/{name.parent.as_posix()}", f"{name} not installed"
    assert not [name for name in installed if "/engines/" in name]


def test_the_source_pack_is_installed_whole(repository, installed):
    files = [path.relative_to(repository) for path in (repository / "packs" / "streets").rglob("*") if path.is_file()]
    assert len(files) > 900
    for name in files:
        assert installed.get(name.as_posix()) == f"share/hrda_ros/{name.parent.as_posix()}", f"{name} not installed"
    # Packs that somebody made beside it stay where they are.
    assert {name.split("/")[1] for name in installed if name.startswith("packs/")} == {"streets"}


def test_notice_and_pack_name_the_makers_of_what_the_renderings_show(repository):
    for name in ("NOTICE", "packs/streets/README.md", "packs/streets/pack.yaml"):
        text = " ".join((repository / name).read_text(encoding="utf-8").split())
        for word in (
            "osrf/gazebo_models, commit 8163eb4b5e7e21985c6591d1c0bfb56468c0093f",
            "Copyright 2012 Nathan Koenig",
            "https://creativecommons.org/licenses/by/3.0/",
            "osrf/citysim, commit 3928b08e2598f5ead2e9b24640fe1bde262a136d",
        ):
            assert word in text, f"{name} lacks '{word}'"


def test_entry_points_exist(repository, described):
    scripts = dict(entry.split(" = ") for entry in described["entry_points"]["console_scripts"])
    assert set(scripts) == {"segment_node", "cloud_node", "ground_node", "hrda"}
    for target in scripts.values():
        module, function = target.split(":")
        path = repository / (module.replace("hrda_training", "training").replace(".", "/") + ".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_scripts_go_where_ros2_run_looks(repository):
    text = (repository / "setup.cfg").read_text(encoding="utf-8")
    assert "script_dir=$base/lib/hrda_ros" in text
    assert "install_scripts=$base/lib/hrda_ros" in text


def test_every_requirement_of_ci_is_pinned(repository, described):
    requirements = pytest.importorskip("packaging.requirements")
    utils = pytest.importorskip("packaging.utils")
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [requirements.Requirement(line) for line in lines if line and not line.startswith("#")]
    for extra in ("runtime", "ros", "bag", "train", "openvino", "fleet", "test"):
        for text in described["extras_require"][extra]:
            requirement = requirements.Requirement(text)
            name = utils.canonicalize_name(requirement.name)
            for python in PYTHONS:
                fitting = [pin for pin in pins if pin.name == name and holds_for(pin.marker, python)]
                assert len(fitting) == 1, f"constraints.txt pins {name} {len(fitting)} times for Python {python}"
                version = str(fitting[0].specifier).removeprefix("==")
                assert requirement.specifier.contains(version), f"constraints.txt pins {fitting[0]}, out of range"


def holds_for(marker, python):
    return marker is None or marker.evaluate({"python_version": python})


def test_ci_script_is_executable(repository):
    assert os.access(repository / ".ci" / "run", os.X_OK)
    assert os.access(repository / "tools" / "in_venv", os.X_OK)


def test_no_machine_path_or_package_host_in_build_files(repository):
    tools = ("tools/interpreters.py", "tools/setup_venv.py")
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "constraints.txt", "Makefile", *tools):
        text = Path(repository, name).read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "index-url" not in text
