"""The node's parameters: one table, `Settings`, from which declarations and checks are made. Needs no rclpy.

Each parameter is a field of `Settings`. `docs/robot/node.md` holds the same table for readers; a test compares the two.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from hrda_core.inference.backends import BACKEND_NAMES, GPU_FAILURE_CHOICES
from hrda_core.inference.predictor import PRECISION_CHOICES
from hrda_core.window_plan import GRAPH_PLANS

__all__ = [
    "PARAMETERS",
    "ParameterSpec",
    "Settings",
    "declare_parameters",
    "likely_typos",
    "read_settings",
    "refusal",
]

NOW, RELOAD, CONFIGURE, START = "now", "reload", "configure", "start"

Value: TypeAlias = "bool | int | float | str"


@dataclass(frozen=True)
class ParameterSpec:
    """One row of the table.

    Attributes:
        name: ROS parameter name.
        default: default value; its Python type is the parameter's type.
        description: text for `ros2 param describe` and the documentation.
        applied: when a new value takes effect: `now` (from the next frame), `reload` (at the next call of `~/reload` or
            configure transition), `configure` (at the next configure transition) or `start` (read-only).
        limits: smallest and largest value of a number.
        choices: allowed values of a string.
    """

    name: str
    default: Value
    description: str
    applied: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """`bool`, `int`, `double` or `string`."""
        return {bool: "bool", int: "int", float: "double", str: "string"}[type(self.default)]

    @property
    def range_text(self) -> str:
        """Allowed values for readers; empty if every value of the type is allowed."""
        if self.limits:
            return "{:g} to {:g}".format(*self.limits)
        return ", ".join(choice or '""' for choice in self.choices)

    def refusal(self, value: Any) -> str | None:
        """Say why `value` cannot be taken; return None if it can. Not-a-number is outside every range."""
        if type(value) is not type(self.default):
            return f"{self.name} must be of type {self.kind}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {self.range_text}, not {value!r}"
        if self.limits and not self.limits[0] <= float(value) <= self.limits[1]:
            return f"{self.name} must be {self.range_text}, not {value!r}"
        return None


def _parameter(default: Value, applied: str, description: str, **allowed: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"applied": applied, "description": description, "allowed": allowed}
    )


@dataclass(frozen=True)
class Settings:
    """Values of all parameters."""

    image_transport: str = _parameter(
        "raw",
        CONFIGURE,
        "What to subscribe to: raw = sensor_msgs/Image on `image`, compressed = sensor_msgs/CompressedImage "
        "(JPEG or PNG) on `<image>/compressed`.",
        choices=("raw", "compressed"),
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
        "ONNX Runtime on the CPU (onnx).",
        choices=BACKEND_NAMES,
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
        "Where the GPU cannot be used or fails while it runs: fall_back = go on with ONNX Runtime on the CPU, stop = "
        "refuse the model, or fail each frame.",
        choices=GPU_FAILURE_CHOICES,
    )
    plan: str = _parameter(
        "", RELOAD, "Window plan of the bundle; empty = the bundle's default.", choices=("", *GRAPH_PLANS)
    )
    long_side: int = _parameter(
        -1,
        RELOAD,
        "Shrink images whose longer side exceeds this before inference, pixels; 0 = never, -1 = the bundle's value. "
        "Masks keep the size of the image.",
        limits=(-1, 16384),
    )
    threads: int = _parameter(0, RELOAD, "CPU threads of the back end; 0 = all cores but one.", limits=(0, 256))
    publish_confidence: bool = _parameter(False, CONFIGURE, "Advertise ~/confidence.")
    overlay_alpha: float = _parameter(0.5, NOW, "Weight of the class colours in ~/overlay.", limits=(0.0, 1.0))
    lazy: bool = _parameter(
        True, NOW, "Do not infer while nobody subscribes to an output, and publish only those that are subscribed to."
    )
    max_age_s: float = _parameter(
        0.0,
        NOW,
        "Skip frames whose stamp is older than this when their turn comes, seconds; 0 = never. An age that is negative "
        "or above a minute counts as unknown (another clock, a bag) and is not skipped.",
        limits=(0.0, 60.0),
    )
    expected_rate: float = _parameter(
        0.0, NOW, "Masks a second below which diagnostics warn; 0 = no expectation.", limits=(0.0, 1000.0)
    )
    autostart: bool = _parameter(True, START, "Configure and activate at start; false waits for a lifecycle manager.")


PARAMETERS: tuple[ParameterSpec, ...] = tuple(
    ParameterSpec(
        field.name,
        cast(Value, field.default),
        field.metadata["description"],
        field.metadata["applied"],
        **field.metadata["allowed"],
    )
    for field in dataclasses.fields(Settings)
)
_BY_NAME = {spec.name: spec for spec in PARAMETERS}


def refusal(changes: Iterable[tuple[str, Any]]) -> str | None:
    """Return the first reason why a set of (name, value) cannot be taken, or None if all can. Foreign names pass."""
    for name, value in changes:
        spec = _BY_NAME.get(name)
        reason = spec.refusal(value) if spec else None
        if reason:
            return reason
    return None


def likely_typos(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (given, probably meant) for names that are nearly, but not quite, parameters of the table.

    Names that resemble nothing are left out, because one YAML file often serves several nodes.
    """
    close = {name: difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.8) for name in names if name not in _BY_NAME}
    return [(name, matches[0]) for name, matches in close.items() if matches]


def declare_parameters(node: Any) -> None:
    """Declare the table on an `rclpy` node, with descriptions, ranges and read-only flags.

    Raises:
        rclpy.exceptions.ParameterException: a value from the command line or a YAML file is refused.
    """
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    when = {
        NOW: "",
        RELOAD: "takes effect at the next ~/reload or configure",
        CONFIGURE: "takes effect at the next configure",
        START: "read-only",
    }
    for spec in PARAMETERS:
        constraints = [f"one of {spec.range_text}"] if spec.choices else []
        descriptor = ParameterDescriptor(
            description=spec.description,
            read_only=spec.applied == START,
            additional_constraints="; ".join([*constraints, when[spec.applied]]).strip("; "),
        )
        if spec.limits and spec.kind == "int":
            low, high = (int(limit) for limit in spec.limits)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        elif spec.limits:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=spec.limits[0], to_value=spec.limits[1], step=0.0)
            ]
        node.declare_parameter(spec.name, spec.default, descriptor)


def read_settings(node: Any) -> Settings:
    """Return the present values of the declared parameters of an `rclpy` node."""
    return Settings(**{spec.name: node.get_parameter(spec.name).value for spec in PARAMETERS})
