"""Parse a command line so that a mistake is one sentence, with the nearest option, and not a page of usage."""

from __future__ import annotations

import difflib
import re
from typing import Any

from hrda_core.errors import RecipeError, require

__all__ = ["parse"]


def parse(parser: Any, argv: list[str]) -> Any:
    """`parser.parse_args(argv)` of a jsonargparse parser.

    Raises:
        RecipeError: the first mistake.
    """
    jsonargparse = require("jsonargparse", "train")
    parser.exit_on_error = False
    try:
        return parser.parse_args([_as_known(parser, argument) for argument in argv])
    except jsonargparse.ArgumentError as error:
        text = " ".join(str(error).split())
        raise RecipeError(f"{text}{_proposal(parser, text)}") from None


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
