"""Extraction of a Python function's source, so that it can run elsewhere, or the reason why it cannot. Standard
library only.
"""

from __future__ import annotations

import ast
import builtins
import copy
import dis
import functools
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

MODULES: Final = ("json", "math", "re")
"""Modules available in the sandbox."""

_HERE = (
    "__import__ aiter anext ascii breakpoint bytearray callable classmethod compile copyright credits delattr dir "
    "eval exec exit globals help input issubclass license locals memoryview open quit staticmethod super vars"
)
HERE: Final = frozenset(_HERE.split())
"""Built-in names that the sandbox lacks, or that have another meaning in the sandbox."""

_CHANGING = "add append clear discard extend insert pop popitem remove reverse setdefault sort update"
CHANGING: Final = frozenset(_CHANGING.split())
"""Methods that change the object on which they are called."""

MISSING: Final = {
    ast.Yield: "'yield'",
    ast.YieldFrom: "'yield from'",
    ast.Await: "'await'",
    ast.AsyncFunctionDef: "a coroutine",
    ast.Delete: "'del'",
    ast.TryStar: "'except*'",
    ast.Global: "'global'",
}
"""Syntax that the sandbox does not support, or that would change state in this process."""

MAX_VALUE_CHARS: Final = 65_536
"""Maximum length of a value that is sent along with a function, in characters."""

MAX_CALL_DEPTH: Final = 8
"""Maximum depth of calls among functions that are sent along."""


@dataclass(frozen=True, slots=True)
class Portable:
    """Source code that ends with a function, or is a lambda, and depends on nothing outside of it."""

    source: str


@dataclass(frozen=True, slots=True)
class Bound:
    """A function that must run in this process; ``reason`` says why."""

    reason: str


def portable(function: Callable[..., Any]) -> Portable | Bound:
    """Return the portable source of a function, or the reason why the function must run in this process.

    A function is portable if it uses only built-ins, modules in `MODULES`, plain values, and other portable functions.
    If a line contains several lambdas, the positions in the code object identify the right one.
    """
    return _portable(function, frozenset(), 0)


def _portable(function: Callable[..., Any], seen_names: frozenset[str], depth: int) -> Portable | Bound:
    if not isinstance(function, types.FunctionType):
        kind = "a method" if inspect.ismethod(function) else f"a {type(function).__name__}"
        return Bound(f"it is {kind}, which belongs to an object of this process")
    if depth > MAX_CALL_DEPTH:
        return Bound("the functions that it calls have too many nested calls")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        return Bound("it is a coroutine or a generator")
    if hasattr(function, "__wrapped__"):
        return Bound("it is wrapped by a decorator")
    node = _node(function)
    if node is None:
        return Bound("its source cannot be found")
    if isinstance(node, ast.FunctionDef) and not all(map(_is_static, node.decorator_list)):
        return Bound("it has a decorator")
    fault = _syntax(node) or _changes(function, node) or _fix_defaults(function, node)
    if fault:
        return Bound(fault)
    before = _surroundings(function, seen_names | {function.__name__}, depth)
    if isinstance(before, Bound):
        return before
    if isinstance(node, ast.FunctionDef):
        node = _bare(node)
    return Portable("\n".join([*before, ast.unparse(node)]))


def _is_static(decorator: ast.expr) -> bool:
    """Return whether a decorator leaves the function unchanged."""
    return isinstance(decorator, ast.Name) and decorator.id == "staticmethod"


def _syntax(node: ast.Lambda | ast.FunctionDef) -> str:
    """Return the first syntax or import in a function that the sandbox does not support, as a reason; empty if none."""
    for inner in ast.walk(node):
        if type(inner) in MISSING:
            return f"it uses {MISSING[type(inner)]}, which the sandbox does not support"
        if isinstance(inner, ast.Import | ast.ImportFrom):
            names = (
                [inner.module or ""] if isinstance(inner, ast.ImportFrom) else [a.name for a in inner.names]
            )
            missing = [name for name in names if name not in MODULES]
            if missing:
                return f"it imports {missing[0]}, which the sandbox does not have"
    return ""


def _changes(function: types.FunctionType, node: ast.Lambda | ast.FunctionDef) -> str:
    """Return, as a reason, what a function changes outside of itself; empty if nothing. In the sandbox, the change
    would only affect a copy.
    """
    code = function.__code__
    around = {*code.co_freevars, *_globals(code)}
    for inner in ast.walk(node):
        match inner:
            case ast.Nonlocal(names=names) if set(names) & set(code.co_freevars):
                return f"it changes '{names[0]}'"
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store()) if name in around:
                return f"it changes '{name}'"
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if (
                name in around and method in CHANGING
            ):
                return f"it changes '{name}'"
    return ""


def _fix_defaults(function: types.FunctionType, node: ast.Lambda | ast.FunctionDef) -> str:
    """Replace the expressions of default arguments with their values. Return the reason if that is impossible,
    otherwise an empty text.
    """
    arguments = node.args
    places = list(function.__defaults__ or ())
    if not all(_plain(item) for item in (*places, *(function.__kwdefaults__ or {}).values())):
        return "a default value of its arguments is an object of this process"
    arguments.defaults = [ast.parse(repr(item), mode="eval").body for item in places]
    keyword_defaults = function.__kwdefaults__ or {}
    arguments.kw_defaults = [
        ast.parse(repr(keyword_defaults[argument.arg]), mode="eval").body
        if argument.arg in keyword_defaults
        else None
        for argument in arguments.kwonlyargs
    ]
    return ""


def _bare(node: ast.FunctionDef) -> ast.FunctionDef:
    """Remove the decorators and annotations of a function, because the sandbox may not know the names in them."""
    node.returns = None
    node.decorator_list = []
    arguments = node.args
    for argument in (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ):
        if argument is not None:
            argument.annotation = None
    return node


def _surroundings(function: types.FunctionType, seen_names: frozenset[str], depth: int) -> list[str] | Bound:
    """Return the source of everything outside a function that the function uses, or the reason why that is
    impossible.
    """
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    lines: list[str] = []
    for name in sorted(set(_globals(function.__code__)) | cells.keys()):
        if name in seen_names:
            continue
        if name in cells:
            try:
                value = cells[name].cell_contents
            except ValueError:
                return Bound(f"it uses '{name}', which has no value yet")
        elif name in function.__globals__:
            value = function.__globals__[name]
        elif name in HERE:
            return Bound(f"it uses '{name}', which the sandbox does not have")
        elif hasattr(builtins, name):
            continue
        else:
            return Bound(f"it uses '{name}', which is not defined")
        line = _value(name, value, seen_names, depth)
        if isinstance(line, Bound):
            return line
        lines.append(line)
    return lines


def _value(name: str, value: Any, seen_names: frozenset[str], depth: int) -> str | Bound:
    if isinstance(value, types.ModuleType):
        if value.__name__ in MODULES:
            return f"import {value.__name__} as {name}" if name != value.__name__ else f"import {name}"
        return Bound(f"it uses the module '{value.__name__}', which the sandbox does not have")
    if _plain(value):
        text = repr(value)
        if len(text) > MAX_VALUE_CHARS:
            return Bound(f"it uses '{name}', which is too large to send along")
        return f"{name} = {text}"
    own_name, home = getattr(value, "__name__", ""), getattr(value, "__module__", None)
    if home in MODULES and callable(value) and getattr(sys.modules[home], own_name, None) is value:
        return f"from {home} import {own_name} as {name}"
    if isinstance(value, types.FunctionType):
        source = _portable(value, seen_names, depth + 1)
        if isinstance(source, Bound):
            return Bound(f"it calls '{name}', and {source.reason}")
        if value.__name__ == "<lambda>":
            before, _, last = source.source.rpartition("\n")
            return f"{before}\n{name} = {last}".lstrip("\n")
        return source.source if value.__name__ == name else f"{source.source}\n{name} = {value.__name__}"
    return Bound(f"it uses '{name}', {_a(value)} of this process")


def _plain(value: Any) -> bool:
    match value:
        case None | bool() | int() | float() | str():
            return True
        case list() | tuple():
            return all(_plain(item) for item in value)
        case dict():
            return all(isinstance(key, str | int) and _plain(item) for key, item in value.items())
    return False


def _a(value: Any) -> str:
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    return f"a {name}"


def _globals(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that a function, and the functions nested in it, use."""
    own_names = {"__name__"}  # names in the body of a nested class that are not global
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME":
            own_names.add(instruction.argval)
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
        if instruction.opname == "LOAD_NAME" and instruction.argval not in own_names:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _globals(constant)


def _node(function: types.FunctionType) -> ast.Lambda | ast.FunctionDef | None:
    """Find the syntax tree of a function by the positions in its code object."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        return None
    tree = _tree("".join(lines))
    if tree is None:
        return None
    node_type = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    # Ignore zero-width positions: the start of a function has one that is outside its body.
    spots = [
        spot for spot in code.co_positions() if None not in spot and (spot[0], spot[2]) != (spot[1], spot[3])
    ]
    candidates: list[tuple[tuple[int, int], ast.Lambda | ast.FunctionDef]] = []
    for node in ast.walk(tree):
        if not isinstance(node, node_type):
            continue
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            if node.name == function.__name__ and first == code.co_firstlineno:
                candidates.append(((0, 0), node))
        elif _holds(node.body, spots):
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            candidates.append(((node.end_lineno - node.lineno, node.end_col_offset - node.col_offset), node))
    # Return a copy, because the tree is cached and the result is modified.
    return copy.deepcopy(min(candidates, key=lambda item: item[0])[1]) if candidates else None


@functools.lru_cache(maxsize=32)
def _tree(text: str) -> ast.Module | None:
    for candidate in (text, textwrap.dedent(text)):
        try:
            return ast.parse(candidate)
        except SyntaxError:
            continue
    return None


def _holds(body: ast.expr, spots: list[Any]) -> bool:
    """Return whether an expression contains all positions of a lambda's code. Both count columns in UTF-8 bytes."""
    assert body.end_lineno is not None
    assert body.end_col_offset is not None
    start, end = (body.lineno, body.col_offset), (body.end_lineno, body.end_col_offset)
    return bool(spots) and all(
        start <= (line, column) and (end_line, end_column) <= end
        for line, end_line, column, end_column in spots
    )
