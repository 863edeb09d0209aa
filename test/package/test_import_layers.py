"""Which way imports go (design.md, section 2), and that a robot needs no torch and the method no ROS."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

IMPORT_ALL = """
import importlib, pkgutil, sys
blocked, roots = ({blocked!r}, {roots!r})
for name in blocked:
    sys.modules[name] = None  # an import of it raises ImportError
for root in roots:
    package = importlib.import_module(root)
    for found in pkgutil.walk_packages(package.__path__, root + "."):
        importlib.import_module(found.name)
loaded = [name for name in {unwanted!r} if sys.modules.get(name) is not None]
assert not loaded, f"loaded: {{loaded}}"
print("imported", len(sys.modules))
"""
TORCH = ("torch", "torchvision", "timm", "matplotlib")
ROS = ("rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs", "launch_ros")


def import_all(roots, blocked=(), unwanted=()):
    """Import every module below `roots` in a fresh interpreter in which `blocked` packages are absent."""
    code = IMPORT_ALL.format(blocked=blocked, roots=roots, unwanted=unwanted)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)


def test_import_contracts_are_kept(repository):
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if program is None:
        pytest.skip("import-linter is not installed here")
    done = subprocess.run([program, "--no-cache"], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", ["hrda_ros", "hrda_core.inference"])
def test_the_robot_side_imports_without_torch(package):
    pytest.importorskip("rclpy")
    done = import_all([package], blocked=TORCH)
    assert done.returncode == 0, done.stderr


def test_importing_the_node_loads_no_torch_that_is_installed():
    pytest.importorskip("rclpy")
    done = import_all(["hrda_ros"], unwanted=TORCH)
    assert done.returncode == 0, done.stderr


def test_hrda_core_imports_where_training_and_the_robot_side_are_deleted():
    pytest.importorskip("torch")
    done = import_all(["hrda_core"], blocked=("hrda_training", "hrda_ros", *ROS))
    assert done.returncode == 0, done.stderr


def test_importing_hrda_core_loads_nothing_heavy():
    code = "import sys, hrda_core; sys.exit(any(name in sys.modules for name in ('numpy', 'torch', 'cv2', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_tests_and_training_are_imported_by_their_installed_names(repository):
    for path in [*(repository / "training").rglob("*.py"), *(repository / "test").rglob("*.py")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not line.lstrip().startswith(("import training", "from training")), f"{path}:{number}"
