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
        return parser.parse_args(argv)
    except jsonargparse.ArgumentError as error:
        text = " ".join(str(error).split())
        raise RecipeError(f"{text}{_proposal(parser, text)}") from None


def _proposal(parser: Any, text: str) -> str:
    """The nearest option to one that is not known."""
    unknown = re.search(r"unrecognized arguments: (--[\w.]+)", text)
    if unknown is None:
        return ""
    known = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    near = difflib.get_close_matches(unknown.group(1), known, n=1)
    return f"; did you mean {near[0]}?" if near else "; --help lists the options"
