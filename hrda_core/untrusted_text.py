"""The one place where YAML and JSON from outside become values: plain ones, and no more than is asked for.

A file may come from a download, a stick or a shared folder. Ten lines of aliases that refer to each other unfold to
more values than a machine can hold, 5,000 brackets end the interpreter's stack, and a key that is given twice loses a
value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hrda_core.errors import TextError, one_line, require
from hrda_core.plain_files import NoFileError, open_file

__all__ = ["Limits", "parse_json", "parse_yaml", "read_json_file", "read_yaml_file"]

_SHOWN = 60
_LONGEST_NUMBER = 100
_NO_KEY = object()


@dataclass(frozen=True)
class Limits:
    """How much a text may hold.

    Attributes:
        bytes: size of the text.
        depth: lists and mappings in each other.
        nodes: values and keys, after aliases are replaced by what they stand for; a long text counts one more for each
            1,000 characters.
        string: characters of one text.
    """

    bytes: int = 1 << 20
    depth: int = 20
    nodes: int = 10_000
    string: int = 1 << 16


def read_yaml_file(path: Path, limits: Limits = Limits()) -> Any:
    """Read a YAML file; see `parse_yaml`.

    Raises:
        OSError: the file is missing or cannot be read.
        TextError: as of `parse_yaml`, or it is no file.
    """
    return parse_yaml(_read(path, limits), limits)


def read_json_file(path: Path, limits: Limits = Limits()) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises:
        OSError: the file is missing or cannot be read.
        TextError: as of `parse_json`, or it is no file.
    """
    return parse_json(_read(path, limits), limits)


def parse_yaml(text: bytes | str, limits: Limits = Limits()) -> Any:
    """Turn one YAML document into plain values: None, bool, int, float, str, list, dict.

    Dates stay texts. An alias is the value of its anchor, not a copy. Numbers have at most 100 characters.

    Raises:
        TextError: it is no YAML, is above a limit, or has a tag, a key that is given twice or is no plain value, or an
            alias of something that contains it. The text has the line and the nearest key, without the file's name.
        MissingPackageError: PyYAML is not installed.
    """
    yaml = require("yaml", "runtime")
    content = _decoded(text, limits)
    # The C part of PyYAML is ten times as fast; not every build has it.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    builder = _Builder(limits, _scalars(yaml))
    try:
        for event in yaml.parse(content, Loader=loader):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 0 if mark is None else mark.line + 1
        raise TextError(builder.sentence(line, getattr(error, "problem", None) or one_line(error))) from None
    return builder.document


def parse_json(text: bytes | str, limits: Limits = Limits()) -> Any:
    """Turn a JSON text into plain values. NaN and infinite numbers are taken, as Python writes them.

    Raises:
        TextError: it is no JSON, is above a limit, or has a key that is given twice.
    """
    content = _decoded(text, limits)
    try:
        values = json.loads(content, object_pairs_hook=_without_repeats, parse_int=_whole_number)
    except RecursionError:
        raise TextError(_too_deep(limits)) from None
    except json.JSONDecodeError as error:
        keys = re.findall(r'"([^"\\]{1,60})"\s*:', content[max(0, error.pos - 10_000) : error.pos])
        where = f"line {error.lineno}{f', at {keys[-1]!r}' if keys else ''}"
        raise TextError(f"{where}: {error.msg}") from None
    _check_json(values, limits)
    return values


def _read(path: Path, limits: Limits) -> bytes:
    try:
        with open_file(path) as file:
            return file.read(limits.bytes + 1)  # what lies beyond is not looked at
    except NoFileError as error:
        raise TextError(str(error)) from None


def _decoded(text: bytes | str, limits: Limits) -> str:
    if len(text) > limits.bytes:
        raise TextError(f"it is larger than {limits.bytes} bytes")
    if isinstance(text, str):
        return text
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        raise TextError(f"line {line}: it is not UTF-8 text (byte {text[error.start]:#04x})") from None


def _too_deep(limits: Limits) -> str:
    return f"lists and mappings lie in each other more than {limits.depth} deep"


def _too_many(limits: Limits) -> str:
    return f"it holds more than {limits.nodes} values (aliases count as what they stand for)"


def _check_text(value: str, limits: Limits) -> None:
    if len(value) > limits.string:
        raise TextError(f"a text is longer than {limits.string} characters ('{value[:_SHOWN]}...')")
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        raise TextError("a text has half of a character (a lone surrogate)")


def _whole_number(text: str) -> int:
    _check_number(text)
    return int(text)


def _check_number(text: str) -> None:
    if len(text) > _LONGEST_NUMBER:
        raise TextError(f"the number {text[:_SHOWN]}... has more than {_LONGEST_NUMBER} characters")


# JSON.


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise TextError(f"an object gives {repeated[:_SHOWN]!r} twice")
    return values


def _check_json(values: Any, limits: Limits) -> None:
    level, count, depth = [values], 0, 0
    while level:
        count += len(level)
        if count > limits.nodes:
            raise TextError(_too_many(limits))
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                _check_text(value, limits)
        depth += any(isinstance(value, (dict, list)) for value in level)
        if depth > limits.depth:
            raise TextError(_too_deep(limits))
        level = below


# YAML.


@dataclass
class _Open:
    """A list or mapping whose end has not come yet.

    Attributes:
        values: what it holds so far.
        anchor: its name for aliases; None without.
        before: number of nodes before it.
        key: the key whose value comes next.
        merged: mappings whose values it takes where it has none of its own (`<<`).
        height: lists and mappings in each other below it.
    """

    values: list[Any] | dict[Hashable, Any]
    anchor: str | None
    before: int
    key: Any = _NO_KEY
    merged: list[Any] = field(default_factory=list)
    height: int = 0


@dataclass(frozen=True)
class _Anchored:
    """What an anchor stands for: its value, its number of nodes, and how deep it is."""

    value: Any
    nodes: int
    height: int


class _Merge:
    """The key `<<`."""


class _Builder:
    """Makes values of the parser's events, and counts."""

    def __init__(self, limits: Limits, scalar: Callable[[Any], Any]) -> None:
        self.document: Any = None
        self._limits, self._scalar = limits, scalar
        self._open: list[_Open] = []
        self._anchored: dict[str, _Anchored] = {}
        self._nodes = self._documents = 0
        self._last_key = ""

    def take(self, event: Any) -> None:
        """Take the next event of `yaml.parse`."""
        try:
            self._take(event, type(event).__name__)
        except TextError as error:
            raise TextError(self.sentence(event.start_mark.line + 1, str(error))) from None

    def sentence(self, line: int, text: str) -> str:
        """Put line and nearest key before a text."""
        where = f"line {line}" if line else ""
        keys = [str(one.key) for one in self._open if one.key is not _NO_KEY and not isinstance(one.key, _Merge)]
        near = keys[-1] if keys else self._last_key
        if near:
            where += f"{', ' if where else ''}at '{near[:_SHOWN]}'"
        return f"{where}: {text}" if where else text

    def _take(self, event: Any, kind: str) -> None:
        if getattr(event, "tag", None) is not None:
            raise TextError(f"it has the tag '{str(event.tag)[:_SHOWN]}', and tags are not read; remove it")
        if kind == "DocumentStartEvent":
            self._documents += 1
            if self._documents > 1:
                raise TextError("it holds a second document ('---')")
        elif kind == "ScalarEvent":
            _check_text(event.value, self._limits)
            weight = 1 + len(event.value) // 1000
            self._count(weight)
            self._place(_Anchored(self._scalar(event), weight, 0), event.anchor)
        elif kind == "AliasEvent":
            known = self._anchored.get(event.anchor)
            if known is None:
                raise TextError(
                    f"the alias '*{event.anchor[:_SHOWN]}' stands for nothing before it, or contains itself"
                )
            self._count(known.nodes)
            self._check_depth(known.height)
            self._place(known, None)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._check_depth(1)
            self._open.append(_Open([] if kind == "SequenceStartEvent" else {}, event.anchor, self._nodes))
            self._count(1)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._close()

    def _count(self, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > self._limits.nodes:
            raise TextError(_too_many(self._limits))

    def _check_depth(self, more: int) -> None:
        if len(self._open) + more > self._limits.depth:
            raise TextError(_too_deep(self._limits))

    def _close(self) -> None:
        done = self._open.pop()
        if isinstance(done.values, dict):
            for mapping in _mappings(done.merged):
                for key, value in mapping.items():
                    done.values.setdefault(key, value)
        self._place(_Anchored(done.values, self._nodes - done.before, done.height + 1), done.anchor)

    def _place(self, node: _Anchored, anchor: str | None) -> None:
        if anchor is not None:
            self._anchored[anchor] = node
        if not self._open:
            self.document = node.value
            return
        parent = self._open[-1]
        parent.height = max(parent.height, node.height)
        if isinstance(node.value, _Merge) and (isinstance(parent.values, list) or parent.key is not _NO_KEY):
            node = _Anchored("<<", 1, 0)  # a text like others where it is no key
        if isinstance(parent.values, list):
            parent.values.append(node.value)
        elif parent.key is _NO_KEY:
            parent.key = self._new_key(node.value, parent.values)
        elif isinstance(parent.key, _Merge):
            parent.merged.append(node.value)
            parent.key = _NO_KEY
        else:
            parent.values[parent.key] = node.value
            parent.key, self._last_key = _NO_KEY, str(parent.key)

    def _new_key(self, key: Any, values: dict[Hashable, Any]) -> Any:
        if isinstance(key, (list, dict)):
            raise TextError("a key is a list or mapping; keys are names or numbers")
        if not isinstance(key, _Merge) and key in values:
            raise TextError(f"it gives '{str(key)[:_SHOWN]}' twice")
        return key


def _mappings(merged: list[Any]) -> Iterator[dict[Hashable, Any]]:
    for value in merged:
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                raise TextError("'<<' takes mappings only")
            yield mapping


def _scalars(yaml: Any) -> Callable[[Any], Any]:
    """What makes a value of a scalar's event, by the rules of `yaml.safe_load`, dates excepted."""
    constructor = yaml.constructor.SafeConstructor()
    return partial(_scalar, yaml, yaml.resolver.Resolver.yaml_implicit_resolvers, constructor)


def _scalar(yaml: Any, resolvers: Any, constructor: Any, event: Any) -> Any:
    text = event.value
    if not event.implicit[0]:  # quoted
        return text
    tag = next((tag for tag, pattern in resolvers.get(text[:1], ()) if pattern.match(text)), "").rpartition(":")[2]
    if tag == "null":
        return None
    if tag == "bool":
        return constructor.bool_values[text.lower()]
    if tag == "merge":
        return _Merge()
    if tag not in ("int", "float"):
        return text
    _check_number(text)
    node = yaml.ScalarNode(f"tag:yaml.org,2002:{tag}", text)
    try:
        number = constructor.construct_yaml_int(node) if tag == "int" else constructor.construct_yaml_float(node)
    except (ValueError, IndexError, OverflowError):
        raise TextError(f"'{text}' is no number") from None
    return number
