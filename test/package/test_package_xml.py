"""package.xml: valid, and complete as to what the robot side imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import yaml

catkin_package = pytest.importorskip("catkin_pkg.package")

OWN = {"hrda_core", "hrda_ros", "hrda_training"}
ROSDEP_KEYS = {
    "cv2": "python3-opencv",
    "numpy": "python3-numpy",
    "yaml": "python3-yaml",
}
WITHOUT_ROSDEP_KEY = {"bondpy", "onnxruntime", "pynvml", "simplejpeg", "tensorrt"}
"""tools/robot_setup brings ONNX Runtime; the others are optional (bondpy is not in every distribution)."""
NOT_IMPORTED_BY_A_STATEMENT = {
    "builtin_interfaces",  # of message headers
    "lifecycle_msgs",  # of rclpy.lifecycle
    "vision_msgs",
}


@pytest.fixture(scope="module")
def package(repository):
    return catkin_package.parse_package(str(repository / "package.xml"))


DEVELOPMENT = {
    # Networks in PyTorch, and what makes graphs of them.
    *("export", "network", "torch_windows", "flops", "deploy_graph", "detail_tiles", "folding", "onnx_writing"),
    *("static_export", "torch_backend", "torch_runners", "half_precision"),
    # Reading and changing ONNX files: int8, and the operations that `hrda bench` counts.
    *("int8", "int8_agreement", "int8_layers", "int8_search", "calibration"),
    *("bench_layers", "graph_flops", "graph_fusion", "graph_ops", "graph_readers", "graph_shapes"),
}
"""Modules of the inference package that no node imports."""


def robot_files(repository: Path) -> list[Path]:
    """Every file that runs on a robot: the node, what it uses of hrda_core, and the launch files."""
    core = repository / "hrda_core"
    files = [core / "errors.py", core / "labels.py", core / "window_plan.py", *(core / "inference").rglob("*.py")]
    files += [*(repository / "hrda_ros").rglob("*.py"), *(repository / "launch").glob("*.py")]
    return [path for path in files if path.stem not in DEVELOPMENT]


def imported_packages(path: Path) -> set[str]:
    """Top-level names of all imports of a file, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - OWN


def test_package_xml_is_valid_without_warnings(package):
    warnings: list[str] = []
    package.validate(warnings=warnings)
    assert warnings == []
    assert package.package_format == 3
    assert package.get_build_type() == "ament_python"
    assert package.licenses == ["Apache-2.0"]


def test_package_xml_states_the_version_of_the_code(package):
    import hrda_core

    assert package.version == hrda_core.__version__


def test_every_import_of_the_robot_side_is_an_exec_depend(repository, package):
    declared = {dependency.name for dependency in package.exec_depends}
    for path in robot_files(repository):
        needed = {ROSDEP_KEYS.get(name, name) for name in imported_packages(path) - WITHOUT_ROSDEP_KEY}
        assert needed <= declared, f"{path.relative_to(repository)} imports {needed - declared}; add an exec_depend"


def test_no_exec_depend_is_left_over(repository, package):
    imported = set().union(*map(imported_packages, robot_files(repository)))
    used = {ROSDEP_KEYS.get(name, name) for name in imported} | NOT_IMPORTED_BY_A_STATEMENT
    assert {dependency.name for dependency in package.exec_depends} <= used


def test_rosdep_finds_every_key_on_every_distribution_and_none_by_pip(repository, package):
    table = yaml.safe_load((repository / "test" / "package" / "rosdep_keys.yaml").read_text(encoding="utf-8"))
    assert table["distributions"] == ["humble", "jazzy", "kilted", "lyrical"]
    for dependency in [*package.exec_depends, *package.test_depends]:
        found = table["keys"].get(dependency.name)
        assert found is not None, f"add what rosdep makes of {dependency.name} to rosdep_keys.yaml"
        assert len(found) == len(table["distributions"])
        assert "pip" not in found, (
            f"rosdep would fetch {dependency.name} by pip; tools/robot_setup brings such packages"
        )
        assert None not in found, f"a distribution lacks {dependency.name}"


def test_a_robot_without_a_screen_need_not_have_rviz(package):
    assert not [dependency.name for dependency in package.exec_depends if dependency.name.startswith("rviz")]


def test_package_xml_never_names_wheels(package):
    names = [dependency.name for dependency in [*package.exec_depends, *package.test_depends]]
    assert not [name for name in names if name.startswith("ros-")]
