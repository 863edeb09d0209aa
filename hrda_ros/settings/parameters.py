"""The node's parameters: one table, `Settings`, from which declarations and checks are made. Needs no rclpy.

Each parameter is a field of `Settings`. `docs/robot/node.md` holds the same table for readers; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hrda_core.inference.backends import BACKEND_NAMES, GPU_FAILURE_CHOICES
from hrda_core.inference.openvino.options import DEVICES, INFERENCE_PRECISIONS
from hrda_core.inference.predictor import PRECISION_CHOICES
from hrda_core.window_plan import GRAPH_PLANS
from hrda_ros.settings.camera_names import camera_names
from hrda_ros.settings.camera_settings import TRANSPORTS, CameraSettings, cameras_refusal, range_refusal, table_of
from hrda_ros.settings.parameter_table import (
    CONFIGURE,
    NOW,
    RELOAD,
    START,
    ParameterSpec,
    ParameterTable,
    warn_of_typos,
)
from hrda_ros.settings.parameter_table import parameter as _parameter

__all__ = [
    "PARAMETERS",
    "ParameterSpec",
    "Settings",
    "declare_parameters",
    "likely_typos",
    "read_settings",
    "refusal",
]


def _cameras_refusal(text: str) -> str:
    return cameras_refusal(text, [spec.name for spec in PARAMETERS])


@dataclass(frozen=True)
class Settings:
    """Values of all parameters but those of single cameras."""

    cameras: str = _parameter(
        "",
        START,
        "Names of the cameras that this node serves with one model, as a list or with commas between; empty = one "
        "camera, on `image`.",
        check=_cameras_refusal,
        listed=True,
    )
    image_transport: str = _parameter(
        "raw",
        CONFIGURE,
        "What to subscribe to: raw = sensor_msgs/Image on `image`, compressed = sensor_msgs/CompressedImage "
        "(JPEG or PNG) on `<image>/compressed`.",
        choices=TRANSPORTS,
    )
    value_range: str = _parameter(
        "",
        CONFIGURE,
        "Of images of 16-bit pixels (mono16, PNG), the values that become black and white, such as `0 4095` of a "
        "camera of 12 bits; empty = the smallest of 8, 10, 12, 14 and 16 bits that holds the values seen so far.",
        check=range_refusal,
    )
    camera_areas: str = _parameter(
        "",
        CONFIGURE,
        "YAML file that says which pixels of each camera's pictures count; the others get class 255 and confidence 0. "
        "Empty = all count.",
    )
    model: str = _parameter(
        "",
        RELOAD,
        "Folder or name of the model bundle; a name is looked up in $HRDA_MODELS (~/.local/share/hrda/models), then "
        "among the installed bundles; empty = the bundle hrda_lite that is installed.",
    )
    backend: str = _parameter(
        "auto",
        RELOAD,
        "Inference back end; auto = the fastest that can run here: a TensorRT engine, ONNX Runtime on the GPU (cuda), "
        "of OpenVINO (openvino) and ONNX Runtime on the CPU (onnx) the one that was faster here.",
        choices=BACKEND_NAMES,
    )
    device: str = _parameter("CPU", RELOAD, "Device of OpenVINO; GPU and NPU are Intel's.", choices=DEVICES)
    inference_precision: str = _parameter(
        "f32",
        RELOAD,
        "Number format in which OpenVINO computes; bf16 and f16 round, and the log says how many classes stay.",
        choices=INFERENCE_PRECISIONS,
    )
    precision: str = _parameter(
        "auto",
        RELOAD,
        "Number format of the graph; auto = fp16 where a TensorRT engine of it is there, else fp32.",
        choices=PRECISION_CHOICES,
    )
    build_engine: bool = _parameter(
        False, RELOAD, "Build a TensorRT engine that is missing, in configure or ~/reload; that takes minutes."
    )
    on_gpu_failure: str = _parameter(
        "fall_back",
        RELOAD,
        "Where the GPU or OpenVINO cannot be used or fails while it runs: fall_back = go on with ONNX Runtime on the "
        "CPU, stop = refuse the model, or fail each frame.",
        choices=GPU_FAILURE_CHOICES,
    )
    plan: str = _parameter(
        "", RELOAD, "Window plan of the bundle; empty = the bundle's default.", choices=("", *GRAPH_PLANS)
    )
    latency_budget_ms: float = _parameter(
        0.0,
        RELOAD,
        "What the work on a frame may take, from decoding to publishing, milliseconds; above it cheaper plans of the "
        "bundle serve, and `plan` again where it fits; 0 = always `plan`.",
        limits=(0.0, 60000.0),
    )
    long_side: int = _parameter(
        -1,
        RELOAD,
        "Shrink images whose longer side exceeds this before inference, pixels; 0 = never, -1 = the bundle's value. "
        "Masks keep the size of the image.",
        limits=(-1, 16384),
    )
    masks_size: str = _parameter(
        "image",
        RELOAD,
        "Size of all masks: image = that of the camera image, network = that to which the image is resized before "
        "inference; ~/camera_info then describes masks of that size.",
        choices=("image", "network"),
    )
    threads: int = _parameter(0, RELOAD, "CPU threads of the back end; 0 = all cores but one.", limits=(0, 256))
    publish_confidence: bool = _parameter(False, CONFIGURE, "Advertise ~/confidence.")
    mask_classes: str = _parameter(
        "", CONFIGURE, "Advertise ~/mask, 255 on the pixels of these classes; names with commas between."
    )
    overlay_alpha: float = _parameter(0.5, NOW, "Weight of the class colours in ~/overlay.", limits=(0.0, 1.0))
    lazy: bool = _parameter(
        True, NOW, "Do not infer while nobody subscribes to an output, and publish only those that are subscribed to."
    )
    batch_slop_s: float = _parameter(
        0.0,
        CONFIGURE,
        "Images of several cameras that wait, and whose stamps differ by this at most, go through the model in one "
        "run, seconds; 0 = one after the other. Refused where the graph takes one image at a time.",
        limits=(0.0, 1.0),
    )
    max_age_s: float = _parameter(
        0.0,
        NOW,
        "Skip frames whose stamp is older than this when their turn comes, seconds; 0 = never. An age that is negative "
        "or above a minute counts as unknown (another clock, a bag) and is not skipped.",
        limits=(0.0, 60.0),
    )
    max_rate_hz: float = _parameter(
        0.0,
        NOW,
        "Masks a second at most, of each camera; further frames are dropped before they are decoded; 0 = no limit.",
        limits=(0.0, 1000.0),
    )
    expected_rate: float = _parameter(
        0.0,
        NOW,
        "Masks a second below which diagnostics warn; 0 = no expectation. Above max_rate_hz, that counts.",
        limits=(0.0, 1000.0),
    )
    timeout_s: float = _parameter(
        1.0,
        NOW,
        "A frame that the back end has for longer is an ERROR in diagnostics, seconds; 0 = never. A model that is "
        "always slow may take five times its usual time.",
        limits=(0.0, 600.0),
    )
    reload_timeout_s: float = _parameter(
        120.0,
        NOW,
        "A reload of which nothing is heard for so long has failed and can be called again, seconds; 0 = never. A "
        "build of an engine is heard every five seconds.",
        limits=(0.0, 3600.0),
    )
    max_megapixels: int = _parameter(
        64,
        NOW,
        "Compressed images whose header states more million pixels are refused before they are decoded.",
        limits=(1, 1024),
    )
    save_folder: str = _parameter(
        "", NOW, "Folder that ~/save_frame writes into; empty = hrda_frames in $ROS_HOME (~/.ros)."
    )
    autostart: bool = _parameter(True, START, "Configure and activate at start; false waits for a lifecycle manager.")


_TABLE = ParameterTable(Settings)
PARAMETERS: tuple[ParameterSpec, ...] = _TABLE.specs
refusal = _TABLE.refusal
likely_typos = _TABLE.likely_typos
read_settings = _TABLE.read


def declare_parameters(node: Any) -> dict[str, ParameterTable[CameraSettings]]:
    """Declare all parameters on an `rclpy` node, and return the tables of its cameras by name, none for one camera.

    Raises:
        rclpy.exceptions.ParameterException: a value from the command line or a YAML file is refused.
    """
    _TABLE.add_to(node)
    names = read_settings(node).cameras
    tables = {name: table_of(name) for name in (camera_names(names) if names else ())}
    for table in tables.values():
        table.add_to(node)
    warn_of_typos(node, _TABLE, *tables.values())
    return tables
