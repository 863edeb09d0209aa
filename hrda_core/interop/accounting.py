"""Fills a network with foreign weights and accounts for every single tensor: all are loaded, or none.

A tensor of the file is used, ignored by a named rule, or unknown. A tensor of the network is filled, kept by a named
rule, or missing. A tensor that is unknown or missing, of another shape or kind, or not finite is an error, raised
before the first value is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from hrda_core.errors import CheckpointError
from hrda_core.models.finite_weights import not_finite

__all__ = ["IgnoreRule", "LoadReport", "fill_network"]

_COUNTER = "num_batches_tracked"
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_SHOWN = 3


@dataclass(frozen=True)
class IgnoreRule:
    """A rule for names of a file that belong to no part of our network, with the reason why they may be left out.

    Attributes:
        reason: a few words, shown in the report.
        pattern: regular expression that the whole name must match.
        beside: the rule holds only if the file also has a name with this beginning; empty = always.
    """

    reason: str
    pattern: str
    beside: str = ""

    def covers(self, name: str, names: Iterable[str]) -> bool:
        """Return whether `name` may be ignored in a file of `names`."""
        if re.fullmatch(self.pattern, name) is None:
            return False
        return not self.beside or any(other.startswith(self.beside) for other in names)


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of a file that was loaded.

    Attributes:
        source: file name, or `state dict`.
        network: which network of the file: `student`, `teacher`, `single` (the file holds only one) or `encoder`.
        used: names of our network that got a value from the file.
        ignored: reason -> names of the file that were left out by that rule.
        kept: names of our network that the file lacks and that keep their own value by a rule.
        random: names of the encoder that stay random because the caller allowed it.
    """

    source: str
    network: str
    used: tuple[str, ...]
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    random: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.source} ({self.network}): {len(self.used)} tensors used"]
        parts += [f"{len(names)} ignored ({reason})" for reason, names in self.ignored.items()]
        parts += [f"{len(self.kept)} kept (absent from the file)"] if self.kept else []
        parts += [f"{len(self.random)} of the encoder left random"] if self.random else []
        return ", ".join(parts)


def fill_network(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str,
    network: str,
    rules: Iterable[IgnoreRule] = (),
    ignored: Mapping[str, tuple[str, ...]] | None = None,
    may_keep: Callable[[str], bool] = lambda _: False,
    may_stay_random: Callable[[str], bool] = lambda _: False,
    hint: str = "",
) -> LoadReport:
    """Copy `tensors` into `model` under equal names, if everything fits.

    Args:
        model: filled in place; it keeps its device and its precision.
        tensors: values by the names of `model`; half, single and double precision are converted.
        source, network: for the report and the error.
        rules: rules for what may be left out.
        ignored: what was left out already, by reason.
        may_keep: names of `model` that may be absent and keep their value, beside BatchNorm's step counters.
        may_stay_random: names of `model` that may be absent and stay random.
        hint: advice that is appended to the error.

    Raises:
        CheckpointError: something is missing, unknown, of another shape or type, or not finite; `model` is unchanged.
    """
    own = model.state_dict()
    by_rule, unknown = _sort_out([name for name in tensors if name not in own], rules, tensors)
    absent = [name for name in own if name not in tensors]
    kept = [name for name in absent if name.endswith(_COUNTER) or may_keep(name)]
    random = [name for name in absent if name not in kept and may_stay_random(name)]
    fitting = {name: _same_rank(value, own[name], name) for name, value in tensors.items() if name in own}
    problems = {
        "missing": [name for name in absent if name not in kept and name not in random],
        "unknown": [name.lstrip("/") for name in unknown],
        "of another shape": _other_shapes(fitting, own),
        "of another type": _other_types(fitting, own),
        "with NaN or infinite values": not_finite(fitting),
    }
    _refuse({what: names for what, names in problems.items() if names}, type(model).__name__, source, hint)
    model.load_state_dict(fitting, strict=False)
    everything_ignored = {**(ignored or {}), **by_rule}
    return LoadReport(source, network, tuple(fitting), everything_ignored, tuple(kept), tuple(random))


def _sort_out(
    names: list[str], rules: Iterable[IgnoreRule], file_names: Iterable[str]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    by_rule: dict[str, list[str]] = {}
    unknown = []
    rules, file_names = list(rules), list(file_names)
    for name in names:
        rule = next((rule for rule in rules if rule.covers(name, file_names)), None)
        if rule is None:
            unknown.append(name)
        else:
            by_rule.setdefault(rule.reason, []).append(name)
    return {reason: tuple(found) for reason, found in by_rule.items()}, unknown


def _same_rank(value: Tensor, own: Tensor, name: str) -> Tensor:
    """Step counters are stored as () or (1,), depending on the format."""
    if name.endswith(_COUNTER) and value.numel() == 1:
        return value.reshape(own.shape)
    return value


def _other_shapes(fitting: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name}: file {_shape(value)}, network {_shape(own[name])}"
        for name, value in fitting.items()
        if value.shape != own[name].shape
    ]


def _other_types(fitting: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    return [
        f"{name}: file {_type(value)}, network {_type(own[name])}"
        for name, value in fitting.items()
        if value.dtype not in (_FLOATS if own[name].is_floating_point() else _INTEGERS)
        or value.layout is not torch.strided
    ]


def _refuse(problems: Mapping[str, list[str]], model: str, source: str, hint: str) -> None:
    if not problems:
        return
    parts = [f"{len(names)} {what} ({_first(names)})" for what, names in problems.items()]
    advice = f"; {hint}" if hint else ""
    raise CheckpointError(
        f"checkpoint '{source}' does not fit the network {model}: {', '.join(parts)}; nothing was loaded{advice}"
    )


def _first(names: list[str]) -> str:
    more = f" ... and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape)) or "one value"


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
