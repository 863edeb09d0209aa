"""What a launch file says, read from its syntax tree: `launch` itself is not on PyPI."""

from __future__ import annotations

import ast

__all__ = ["calls", "first_literals", "keywords"]


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    """All calls of a function by its plain name."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]


def keywords(call: ast.Call) -> dict[str | None, ast.expr]:
    return {keyword.arg: keyword.value for keyword in call.keywords}


def first_literals(found: list[ast.Call]) -> set[str]:
    return {call.args[0].value for call in found if call.args and isinstance(call.args[0], ast.Constant)}
