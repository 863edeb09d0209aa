"""Which attributes of a module and of its objects a source file touches, read without running it.

A small interpreter walks the code once for each version of the module. Types come from the signatures in the bindings
(`builder = trt.Builder(logger)`), else from the variable's name, by a list which the caller gives. `hasattr`, and
`getattr` with a default, are answered from the version's surface; a branch that this version does not take, and a
function that only such branches call, are left out. So code behind `if hasattr(trt.BuilderFlag, "FP16"):` is checked in
the versions that have it, and in no other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tensorrt_stubs import Surface

__all__ = ["MODULE", "Reading", "Use", "api_uses"]

MODULE = ""
"""The class name that stands for the module itself."""

Value = str | bool | None
"""Class of an object (`"X[]"`: a list of such), a truth value that is known, or None for anything else."""

OURS = "ours[]"
"""A value of a class of the analysed files: the variable's name then says nothing."""

Scope = dict[str, Value]
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


@dataclass(frozen=True)
class Use:
    """One attribute that the code touches in a version; `found` says whether the version has it."""

    where: str
    owner: str
    name: str
    found: bool

    def __str__(self) -> str:
        return f"{self.where}: {self.owner or 'the module'}.{self.name}"


@dataclass(frozen=True)
class Reading:
    """What the code does in one version.

    Attributes:
        uses: attributes that live code touches, in order of appearance.
        unread: functions that no live code names.
    """

    uses: Sequence[Use]
    unread: frozenset[str]

    @property
    def missing(self) -> list[str]:
        """The uses that this version cannot serve, with file and line."""
        return [str(use) for use in self.uses if not use.found]


def api_uses(sources: Mapping[str, str], surface: Surface, variables: Mapping[str, str]) -> Reading:
    """Every attribute of the module, its classes and their objects that live code touches.

    Args:
        sources: Python text by file name.
        variables: class by variable name, `MODULE` for the module; underscores before a name in the code do not count.
    """
    trees = {file: ast.parse(text) for file, text in sources.items()}
    later = _definitions(trees)
    reader = _Reader(surface, variables, later)
    for file, tree in trees.items():
        reader.read_module(file, tree)
    unread = {
        f"{file}:{node.name}"
        for found in later.values()
        for file, node in found
        if id(node) not in reader.done and not isinstance(node, ast.ClassDef)
    }
    return Reading(tuple(dict.fromkeys(reader.uses)), frozenset(unread))


def _definitions(trees: Mapping[str, ast.Module]) -> dict[str, list[tuple[str, Definition]]]:
    """What is read only where live code names it: private definitions, and all that other pieces of the files name."""
    pieces = [(file, node) for file, tree in trees.items() for node in _pieces(tree)]
    named = {id(node): _names(node) for _, node in pieces}
    later: dict[str, list[tuple[str, Definition]]] = {}
    for file, node in pieces:
        if not isinstance(node, Definition) or node.name.startswith("__"):
            continue
        elsewhere = any(node.name in names for other, names in named.items() if other != id(node))
        if elsewhere or node.name.startswith("_"):
            later.setdefault(node.name, []).append((file, node))
    return later


def _pieces(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements of a file and of its classes; a class itself counts without its methods."""
    for node in tree.body:
        yield node
        if isinstance(node, ast.ClassDef):
            yield from node.body


def _names(node: ast.stmt) -> set[str]:
    parts = [*node.bases, *node.decorator_list] if isinstance(node, ast.ClassDef) else [node]
    found = [child for part in parts for child in ast.walk(part)]
    return {child.id for child in found if isinstance(child, ast.Name)} | {
        child.attr for child in found if isinstance(child, ast.Attribute)
    }


def _gives_ours(node: Definition) -> bool:
    """Whether calling it gives an object that is not of the module; those are annotated as `Any`."""
    if isinstance(node, ast.ClassDef):
        return True
    annotation = ast.unparse(node.returns) if node.returns else "Any"
    return "Any" not in annotation and annotation != "bool"


class _Reader:
    def __init__(
        self,
        surface: Surface,
        variables: Mapping[str, str],
        later: Mapping[str, list[tuple[str, Definition]]],
    ) -> None:
        self.uses: list[Use] = []
        self.done: set[int] = set()
        self._returns: dict[int, set[Value]] = {}
        self._inside: list[int] = []
        self._surface, self._variables, self._later = surface, variables, later
        self._file = ""

    def read_module(self, file: str, tree: ast.Module) -> None:
        self._file = file
        self._block(tree.body, {})

    # Statements. A block answers whether it always leaves its function or loop.

    def _block(self, body: Sequence[ast.stmt], scope: Scope) -> bool:
        return any(self._statement(node, scope) for node in body)

    def _statement(self, node: ast.stmt, scope: Scope) -> bool:
        if isinstance(node, Definition):
            self._define(node, scope)
        elif isinstance(node, ast.If):
            return self._if(node, scope)
        elif isinstance(node, ast.Return):
            value = self._value(node.value, scope) if node.value else False
            self._returns.setdefault(self._inside[-1], set()).add(value)
        elif isinstance(node, ast.For):
            self._bind(node.target, self._element(node.iter, scope), scope)
            self._block(node.body, scope)
            self._block(node.orelse, scope)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = self._value(node.value, scope) if node.value else None
            for target in targets:
                self._bind(target, value, scope)
        else:
            self._parts(node, scope)
        return isinstance(node, LEAVES)

    def _parts(self, node: ast.AST, scope: Scope) -> None:
        """Expressions and blocks inside a loop, `with`, `try` or plain statement, in order."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self._statement(child, scope)
            elif isinstance(child, ast.expr):
                self._value(child, scope)
            else:
                self._parts(child, scope)

    def _if(self, node: ast.If, scope: Scope) -> bool:
        test = self._value(node.test, scope)
        if isinstance(test, bool):
            return self._block(node.body if test else node.orelse, scope)
        yes, no = dict(scope), dict(scope)
        yes_leaves, no_leaves = self._block(node.body, yes), self._block(node.orelse, no)
        after = no if yes_leaves else yes if no_leaves else {k: v for k, v in yes.items() if k in no and no[k] == v}
        scope.clear()
        scope.update(after)
        return yes_leaves and no_leaves

    def _define(self, node: Definition, scope: Scope) -> None:
        if any(node is other for _, other in self._later.get(node.name, [])):
            return
        self._open(node, scope)

    def _open(self, node: Definition, scope: Scope) -> None:
        """Read a definition's body, once for a definition at the top of a file."""
        inner = dict(scope)
        for part in node.decorator_list:
            self._value(part, inner)
        if isinstance(node, ast.ClassDef):
            for base in node.bases:
                self._overrides(node, self._value(base, inner))
        else:
            for default in [*node.args.defaults, *node.args.kw_defaults]:
                if default is not None:
                    self._value(default, inner)
            for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                inner.pop(argument.arg, None)
        self._inside.append(id(node))
        self._block(node.body, inner)
        self._inside.pop()

    def _overrides(self, node: ast.ClassDef, base: Value) -> None:
        """Public methods of a subclass are called by the bindings: under another name they never would be."""
        for part in node.body:
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                self._attribute(base, part.name, part)

    def _named(self, name: str) -> None:
        """Live code names something: what is defined under this name is live too."""
        for file, node in self._later.get(name, []):
            if id(node) not in self.done:
                self.done.add(id(node))
                before, self._file = self._file, file
                self._open(node, {})
                self._file = before

    # Expressions.

    def _value(self, node: ast.expr, scope: Scope) -> Value:
        if isinstance(node, ast.Name):
            self._named(node.id)
            return scope[node.id] if node.id in scope else self._by_name(node.id)
        if isinstance(node, ast.Attribute):
            self._named(node.attr)
            return self._attribute(self._value(node.value, scope), node.attr, node)
        if isinstance(node, ast.Call):
            return self._call(node, scope)
        if isinstance(node, ast.Constant):
            return False if node.value is None or node.value is False else True if node.value is True else None
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._value(node.operand, scope)
            return not inner if isinstance(inner, bool) else None
        if isinstance(node, ast.BoolOp):
            return self._bool_op(node, scope)
        if isinstance(node, ast.IfExp):
            return self._if_expression(node, scope)
        if isinstance(node, ast.NamedExpr):
            value = self._value(node.value, scope)
            self._bind(node.target, value, scope)
            return value
        if isinstance(node, ast.Compare):
            return self._compare(node, scope)
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.SetComp)):
            return self._comprehension(node, scope)
        if isinstance(node, ast.Subscript):
            self._value(node.slice, scope)
            return self._element(node.value, scope)
        self._parts(node, scope)
        return None

    def _by_name(self, name: str) -> Value:
        return self._variables.get(name.lstrip("_"))

    def _bind(self, target: ast.expr, value: Value, scope: Scope) -> None:
        if not isinstance(target, ast.Name):
            self._value(target, scope)
        elif value is not None:
            scope[target.id] = value
        else:
            scope.pop(target.id, None)

    def _attribute(self, owner: Value, name: str, node: ast.expr | ast.stmt) -> Value:
        if not isinstance(owner, str) or owner.endswith("[]"):
            return self._by_name(name)
        found = self._surface.has(owner, name)
        self.uses.append(Use(f"{self._file}:{node.lineno}", owner, name, found))
        if owner == MODULE:
            return name if name in self._surface.classes else None
        return self._surface.classes[owner].get(name) or None

    def _call(self, node: ast.Call, scope: Scope) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in ("hasattr", "getattr") and len(node.args) >= 2 and isinstance(node.args[1], ast.Constant):
            return self._asked(name, node, str(node.args[1].value), scope)
        made = self._value(node.func, scope)
        self._count_arguments(node, scope)
        for part in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self._value(part, scope)
        return self._returned(name) if made is None else made

    def _count_arguments(self, node: ast.Call, scope: Scope) -> None:
        """A call with more or fewer arguments than the version's function takes counts as a missing name."""
        if not isinstance(node.func, ast.Attribute) or any(isinstance(part, ast.Starred) for part in node.args):
            return
        owner = self._quietly(node.func.value, scope)
        if not isinstance(owner, str) or any(keyword.arg is None for keyword in node.keywords):
            return
        name = f"{owner}.{node.func.attr}" if owner else node.func.attr
        # Of a class named through the module, as in `trt.ILogger.__init__(self)`, the first argument is the object.
        count = len(node.args) + len(node.keywords) - (node.func.attr == "__init__")
        least, most = self._surface.arguments.get(name, (count, count))
        if not least <= count <= most:
            takes = f"{least}" if least == most else f"{least} to {most}"
            text = f"{node.func.attr}() with {count} arguments instead of {takes}"
            self.uses.append(Use(f"{self._file}:{node.lineno}", owner, text, False))

    def _quietly(self, node: ast.expr, scope: Scope) -> Value:
        """Class of an expression that was read already."""
        before = len(self.uses)
        value = self._value(node, scope)
        del self.uses[before:]
        return value

    def _asked(self, function: str, node: ast.Call, name: str, scope: Scope) -> Value:
        """`hasattr(owner, "name")` and `getattr(owner, "name", default)`: true or false by version."""
        owner = self._value(node.args[0], scope)
        if not isinstance(owner, str) or owner.endswith("[]"):
            return None
        if function == "getattr" and len(node.args) == 2:
            return self._attribute(owner, name, node)
        found = self._surface.has(owner, name)
        if function == "hasattr":
            return found
        return (self._attribute(owner, name, node) or True) if found else self._value(node.args[2], scope)

    def _returned(self, name: str) -> Value:
        """What a function of these files gives: a class wherever it gives something, or a truth value."""
        found = {value for _, node in self._later.get(name, []) for value in self._returns.get(id(node), {None})}
        classes = {value for value in found if isinstance(value, str)}
        if len(classes) == 1 and found <= classes | {False, None}:
            return classes.pop()
        if any(_gives_ours(node) for _, node in self._later.get(name, [])):
            return OURS
        return found.pop() if len(found) == 1 else None

    def _element(self, node: ast.expr, scope: Scope) -> Value:
        """Class of what a loop over an expression gives."""
        value = self._value(node, scope)
        if value == OURS:
            return OURS
        return value.removesuffix("[]") if isinstance(value, str) and value.endswith("[]") else None

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> Value:
        inner = dict(scope)
        for part in node.generators:
            self._bind(part.target, self._element(part.iter, inner), inner)
            for test in part.ifs:
                self._value(test, inner)
        value = self._value(node.elt, inner)
        return f"{value}[]" if isinstance(value, str) else None

    def _bool_op(self, node: ast.BoolOp, scope: Scope) -> Value:
        decides = isinstance(node.op, ast.Or)
        values: list[Value] = []
        for part in node.values:
            values.append(self._value(part, scope))
            if values[-1] is decides:
                return decides  # what stands behind it does not run
        return (not decides) if all(value is (not decides) for value in values) else None

    def _if_expression(self, node: ast.IfExp, scope: Scope) -> Value:
        test = self._value(node.test, scope)
        if isinstance(test, bool):
            return self._value(node.body if test else node.orelse, scope)
        values = [self._value(node.body, scope), self._value(node.orelse, scope)]
        return values[0] if values[0] == values[1] else None

    def _compare(self, node: ast.Compare, scope: Scope) -> Value:
        """`x is None` of something that `getattr` did not find."""
        left = self._value(node.left, scope)
        for part in node.comparators:
            self._value(part, scope)
        last = node.comparators[0]
        if isinstance(left, bool) and isinstance(last, ast.Constant) and last.value is None:
            if isinstance(node.ops[0], ast.Is):
                return not left
            if isinstance(node.ops[0], ast.IsNot):
                return left
        return None
