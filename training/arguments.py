"""Makes a verb's options from the fields of its request; a mistake is one sentence with the nearest option."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hrda_core.errors import RecipeError, require, shown

__all__ = ["first_line", "model_folder", "pair", "parse", "parse_request"]

Request = TypeVar("Request")


def parse_request(
    kind: type[Request],
    argv: list[str],
    *,
    verb: str,
    about: str | None,
    positional: str = "",
    read: Mapping[str, Callable[[str], Any]] | None = None,
) -> tuple[Request, Path | None]:
    """Return the request of a verb, and the file of its option `--json`.

    Each field of the dataclass `kind` is an option of the same name: its type checks the value, and its line in the
    docstring is the help. A field `command` is no option: it becomes the command line. A field that ends in `_`, since
    its name is a word of Python, is an option without it.

    Args:
        kind: class of the request.
        argv: words after the verb.
        verb: its name, for the usage.
        about: description of the verb; the first line is shown. Python has none with the option -OO.
        positional: the field that is given without its name.
        read: for fields that are written as one word of another form, the function that turns the word into a value.

    Raises:
        RecipeError: there is a mistake; also what `kind` and `read` raise.
    """
    read = read or {}
    parser = require("jsonargparse", "bag").ArgumentParser(prog=f"hrda {verb}", description=first_line(about))
    _add_fields(parser, kind, positional, read)
    parser.add_argument("--json", type=Path, default=None, help="write the result to this file")
    given = vars(parse(parser, argv))
    json = given.pop("json")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value_of in read.items():
        if (word := values.pop(name)) is not None:
            values[name] = value_of(word)
    values |= {f"{name}_": values.pop(name) for name in list(values) if f"{name}_" in get_type_hints(kind)}
    if "command" in get_type_hints(kind):
        values["command"] = shlex.join(["hrda", *verb.split(), *argv])
    return kind(**values), json


def first_line(text: str | None) -> str:
    """Return the first line of a docstring, which is empty where Python runs with the option -OO."""
    return (text or "").partition("\n")[0]


def pair(option: str, example: str = "480x640") -> Callable[[str], tuple[int, int]]:
    """Return a reader for `read`: two numbers in one word, such as `480x640`: height and width, or rows and columns."""

    def numbers(word: str) -> tuple[int, int]:
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", word.strip().lower())
        if found is None or min(int(found[1]), int(found[2])) < 1:
            raise RecipeError(f"{option} must be two numbers above 0 like {example}, not '{word}'")
        return int(found[1]), int(found[2])

    return numbers


def model_folder(word: str) -> Path:
    """For `read`: the folder of a model, by its path or by its name; which one a name means is told on stderr."""
    from hrda_core.inference.model_folders import find_model

    found = find_model(word)
    if found.remark:
        print(found.remark, file=sys.stderr)
    return found.path


def _add_fields(parser: Any, kind: Any, positional: str, read: Collection[str]) -> None:
    """An option for each field, in their order.

    `parser.add_class_arguments(kind)` is not enough. For it a flag has a value (`--resume true`) and several values are
    one word (`--bag [a,b]`), and it runs what stands behind TYPE_CHECKING beside the class, which imports torch.
    """
    hints, texts = get_type_hints(kind), _texts(kind)
    for field in fields(kind):
        name, hint = field.name, hints[field.name]
        if name == "command":
            continue
        form: dict[str, Any] = {"help": texts.get(name), "type": str if name in read else hint}
        required = field.default is MISSING and field.default_factory is MISSING
        if not required:
            form["default"] = field.default if field.default_factory is MISSING else field.default_factory()
        if name in read:
            form |= {} if name == positional and required else {"default": None}
        elif hint is bool:
            form |= {"action": "store_true"}
            del form["type"]
        elif words := _words(hint, required):
            form["type"], form["nargs"] = words
        elif name == positional and not required:
            form["nargs"] = "?"
        if name != positional:
            form["required"] = required
        parser.add_argument(name if name == positional else f"--{name.rstrip('_')}", **form)


def _texts(kind: type) -> dict[str, str | None]:
    """What the docstring says of each field; nothing where the package docstring-parser is missing."""
    try:
        from docstring_parser import parse as parse_docstring
    except ImportError:
        return {}
    return {field.arg_name: field.description for field in parse_docstring(kind.__doc__ or "").params}


def _words(hint: Any, required: bool) -> tuple[type, str | int] | None:
    """Type and number of the words that make a tuple; None where the type is another."""
    for part in (hint, *get_args(hint)):
        if get_origin(part) is tuple:
            first, *others = get_args(part)
            return first, ("+" if required else "*") if others == [...] else 1 + len(others)
    return None


def parse(parser: Any, argv: list[str]) -> Any:
    """Run `parser.parse_args(argv)` of a jsonargparse parser.

    Raises:
        RecipeError: there is a mistake.
    """
    jsonargparse = require("jsonargparse", "bag")
    parser.exit_on_error = False
    try:
        return parser.parse_args([_as_known(parser, argument) for argument in argv])
    except jsonargparse.ArgumentError as error:
        word = next((word for word in argv if not _is_text(word)), "")
        if word and "surrogates not allowed" in str(error):
            raise RecipeError(
                f"'{shown(word)}' is no text in UTF-8; rename that file or folder, or, where its name looks right "
                f"elsewhere, set LC_ALL=C.UTF-8"
            ) from None
        text = _sentence(parser, " ".join(str(error).split()))
        raise RecipeError(f"{text}{_proposal(parser, text)}") from None


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "NoneType": "null"}


def _is_text(word: str) -> bool:
    """Whether a word has no bytes that Python could not read in the encoding of the locale."""
    return not any("\udc80" <= letter <= "\udcff" for letter in word)


def _sentence(parser: Any, text: str) -> str:
    """What jsonargparse says of a value of the wrong type, without the names of Python's types."""
    # A key of an entry of a list: the sentence of the entry stands inside that of the list.
    text = re.sub(r'Parser key "([\w.]+)"[^"]*? given class_path \S+ Parser key "', r'Parser key "\1.', text)
    found = re.fullmatch(
        r'Parser key "([\w.]+)"(?: element \d+)?: (.*?)(?:Given value type.*?)?(?:Got|Given) value: ?(.*)', text
    )
    if found is None:
        return text
    name, expected, value = found.groups()
    words = re.findall(r"Literal\[(.*?)\]|<class '(?:\w+\.)*(\w+)'>", expected)
    kinds = [choices.replace("'", "").split(", ") if choices else [_KINDS.get(kind, kind)] for choices, kind in words]
    *others, last = dict.fromkeys(chain(*kinds)) or [expected]
    option = f"--{name}" if f"--{name}" in _flags(parser) else name
    return f"{option}: expected {', '.join(others)}{' or ' if others else ''}{last}, not '{value}'"


def _as_known(parser: Any, argument: str) -> str:
    """`--eval-labels` is `--eval_labels`: which of the two a command uses is not worth a mistake."""
    flag, equals, value = argument.partition("=")
    plain = "--" + flag[2:].replace("-", "_")
    known = _flags(parser)
    return plain + equals + value if argument.startswith("--") and flag not in known and plain in known else argument


def _flags(parser: Any) -> list[str]:
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def _proposal(parser: Any, text: str) -> str:
    """The nearest option to one that is not known."""
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)", text)
    if unknown is None:
        return ""
    near = difflib.get_close_matches(unknown.group(1), _flags(parser), n=1)
    return f"; did you mean {near[0]}?" if near else "; --help lists the options"
