"""Tables of parameters: from a dataclass of settings come declarations, checks and values. Needs no rclpy.

A node's parameters are the fields of one dataclass, each made by `parameter`; `ParameterTable` does the rest.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = [
    "CONFIGURE",
    "NOW",
    "RELOAD",
    "START",
    "ParameterSpec",
    "ParameterTable",
    "Value",
    "likely_typos",
    "parameter",
    "warn_of_typos",
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
        check: returns what is wrong with a value, or nothing.
        listed: the value is a list with commas, and may be given as a list of strings.
    """

    name: str
    default: Value
    description: str
    applied: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    check: Callable[[Any], str] | None = None
    listed: bool = False

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
        """Say why `value` cannot be taken; return None if it can. Not-a-number is outside every range.

        A whole number is taken for a double: YAML and the command line make an integer of `1`.
        """
        value = self._joined(value)
        if type(value) is not type(self.default) and not (self.kind == "double" and type(value) is int):
            return f"{self.name} must be of type {self.kind}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {self.range_text}, not {value!r}"
        if self.limits and not self.limits[0] <= float(value) <= self.limits[1]:
            return f"{self.name} must be {self.range_text}, not {value!r}"
        if self.check is not None and (wrong := self.check(value)):
            return f"{self.name}: {wrong}"
        return None

    def value_of(self, value: Any) -> Any:
        """Return a value that was taken, in the type of the parameter."""
        return float(value) if self.kind == "double" else self._joined(value)

    def _joined(self, value: Any) -> Any:
        """A list of strings as text with commas. An empty one, which rclpy makes None, is not the text for nothing."""
        if self.listed and value is None:
            return ","
        if not self.listed or not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            return value
        return ",".join(value) or ","


def parameter(default: Value, applied: str, description: str, **allowed: Any) -> Any:
    """Return a field of a dataclass of settings; `allowed` is what else a `ParameterSpec` says of its values."""
    return dataclasses.field(
        default=default, metadata={"applied": applied, "description": description, "allowed": allowed}
    )


S = TypeVar("S")


class ParameterTable(Generic[S]):
    """The parameters of one node.

    Args:
        settings: dataclass whose fields were made by `parameter`.
        prefix: what stands before the name of each field, such as `front.`.

    Attributes:
        specs: the parameters in the order of the fields.
    """

    def __init__(self, settings: type[S], prefix: str = "") -> None:
        self._settings = settings
        fields: tuple[Any, ...] = dataclasses.fields(settings)  # type: ignore[arg-type]
        self.specs = tuple(
            ParameterSpec(
                prefix + field.name,
                field.default,
                field.metadata["description"],
                field.metadata["applied"],
                **field.metadata["allowed"],
            )
            for field in fields
        )
        self._by_name = {spec.name: spec for spec in self.specs}

    def refusal(self, changes: Iterable[tuple[str, Any]]) -> str | None:
        """Return the first reason why (name, value) pairs cannot be taken, or None if all can. Foreign names pass."""
        for name, value in changes:
            spec = self._by_name.get(name)
            reason = spec.refusal(value) if spec else None
            if reason:
                return reason
        return None

    def likely_typos(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """As `likely_typos`, of this table alone."""
        return likely_typos(names, self._by_name)

    def declare(self, node: Any) -> None:
        """Declare the table on an `rclpy` node, have changes checked, and warn of names that are nearly right.

        Raises:
            rclpy.exceptions.ParameterException: a value from the command line or a YAML file is refused.
        """
        self.add_to(node)
        warn_of_typos(node, self)

    def add_to(self, node: Any) -> None:
        """As `declare`, for one of several tables of a node; `warn_of_typos` follows when all are there."""
        node.add_on_set_parameters_callback(self._check)
        self._declare(node)

    def _check(self, changes: list[Any]) -> Any:
        from rcl_interfaces.msg import SetParametersResult

        reason = self.refusal((change.name, change.value) for change in changes)
        return SetParametersResult(successful=reason is None, reason=reason or "")

    def _declare(self, node: Any) -> None:
        """Declare each parameter with description, range and read-only flag."""
        from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

        when = {
            NOW: "",
            RELOAD: "takes effect at the next ~/reload or configure",
            CONFIGURE: "takes effect at the next configure",
            START: "read-only",
        }
        for spec in self.specs:
            constraints = [f"one of {spec.range_text}"] if spec.choices else []
            descriptor = ParameterDescriptor(
                description=spec.description,
                read_only=spec.applied == START,
                additional_constraints="; ".join([*constraints, when[spec.applied]]).strip("; "),
            )
            # rclpy would refuse an integer for a double, and a list for a text; so types are left to `refusal`.
            descriptor.dynamic_typing = spec.kind == "double" or spec.listed
            if spec.limits and spec.kind == "int":
                low, high = (int(limit) for limit in spec.limits)
                descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
            elif spec.limits:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=spec.limits[0], to_value=spec.limits[1], step=0.0)
                ]
            node.declare_parameter(spec.name, spec.default, descriptor)

    def read(self, node: Any) -> S:
        """Return the present values of the declared parameters of an `rclpy` node."""
        values = [spec.value_of(node.get_parameter(spec.name).value) for spec in self.specs]
        return self._settings(*values)


def likely_typos(names: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Return (given, probably meant) for names that are nearly, but not quite, known parameters.

    Names that resemble nothing are left out, because one YAML file often serves several nodes.
    """
    close = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in names if name not in known}
    return [(name, matches[0]) for name, matches in close.items() if matches]


def warn_of_typos(node: Any, *tables: ParameterTable[Any]) -> None:
    """Warn of parameters that were given to a node, that it has not, and that nearly have the name of one it has."""
    known = [spec.name for table in tables for spec in table.specs]
    for typo, name in likely_typos(getattr(node, "_parameter_overrides", {}), known):
        node.get_logger().warning(f"parameter '{typo}' does not exist and is ignored; was '{name}' meant?")
