"""The calls that a program makes whatever data it reads.

They follow from the program's text. `certain_values` reads expressions; this module reads statements, and counts the
calls. A call counts if its arguments are certain, and no unknown value decides whether the program reaches the call:

- Branches and loops on which an unknown value decides are not read, and what they can change becomes unknown.
- If they can leave more than a pass of a loop (``return``, ``raise``, ``break``), the reading stops.
- In a ``try``, no call counts after a doubtful operation. Errors that end the program do not count as decisions.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.features.tools.code_mode.certain_values import (
    UNKNOWN,
    Box,
    ExpressionReader,
    PorticoPath,
    StopReading,
    is_scalar,
)
from portico_server.features.tools.code_mode.functions import ROOT
from portico_server.features.tools.code_mode.shallow import is_shallow

MAX_FUNCTION_DEPTH: Final = 20

_UNREADABLE: Final = (
    *(ast.ClassDef, ast.AsyncFunctionDef, ast.Global, ast.Nonlocal),
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr),
)
_REFLECTION: Final = frozenset(
    {"exec", "eval", "globals", "locals", "vars", "setattr", "delattr", "exit", "quit", "*"}
)


def call_digest(path: str, arguments: Any) -> bytes:
    """Return a value that is the same for equal calls. Raise `TypeError` for arguments that are not JSON."""
    return sha256(path.encode() + b"\0" + orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).digest()


def expected_calls(
    code: str, paths: Collection[str], own_results: Mapping[bytes, Sequence[Any]]
) -> Counter[bytes]:
    """Return how often a program makes a call, by `call_digest`, whatever data it reads. ``paths`` are the functions
    that it can call. ``own_results`` are results that contain no foreign data, by call, in the order of equal calls.
    Blocks, up to a second for the longest code.
    """
    try:
        tree = ast.parse(code if is_shallow(code) else "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Counter()
    nodes = list(ast.walk(tree))
    if any(map(_is_unreadable, nodes)):
        return Counter()
    can_raise = any(isinstance(node, ast.Raise | ast.Assert) for node in nodes)
    reader = _ProgramReader(paths, own_results, can_raise)
    # After an error, the program fails as well, or its further calls are unknown.
    with suppress(StopReading, RecursionError, TypeError, ValueError, LookupError, ArithmeticError):
        reader.block(tree.body)
    return reader.calls


def _is_unreadable(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(ctx=ast.Store() | ast.Del()):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name in _REFLECTION or name.startswith("__")
        case _:
            return isinstance(node, _UNREADABLE)


@dataclass(frozen=True, slots=True)
class _OwnFunction:
    """A function that the program defines on its top level, with the defaults of its last parameters."""

    node: ast.FunctionDef
    defaults: Mapping[str, Any]


class _ProgramReader(ExpressionReader):
    """Reads a program and counts its calls."""

    def __init__(
        self, paths: Collection[str], own_results: Mapping[bytes, Sequence[Any]], can_raise: bool
    ) -> None:
        super().__init__(can_raise)
        self.calls: Counter[bytes] = Counter()
        self._paths = paths
        self._own_results = own_results
        self._return_value: Any = None

    def block(self, statements: Sequence[ast.stmt]) -> str:
        """Read statements. Return how they end: "" (after the last one), "continue", "break", "return", or "skip" if
        data decides whether the rest of a loop's body runs.
        """
        for number, statement in enumerate(statements):
            end = self._statement(statement)
            if end == "skip":
                self._skip(*statements[number + 1 :])
            if end:
                return end
        return ""

    def _statement(self, node: ast.stmt) -> str:
        self.charge(1)
        match node:
            case ast.Expr(value=expression):
                self.evaluate(expression)
            case ast.Assign(targets=targets, value=expression):
                certain = self.evaluate(expression)
                for target in targets:
                    self.bind(target, certain)
            case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as expression):
                self.forget([annotation])  # it is code that runs
                self.bind(target, self.evaluate(expression))
            case ast.AugAssign(target=ast.Name(id=name) as target, op=sign, value=expression):
                total, addend = self.look_up(name), self.evaluate(expression)
                if is_scalar(total):
                    self.bind(target, self.combine(sign, total, addend))
                else:
                    self.forget([node])
            case ast.If(test=test, body=body, orelse=orelse):
                truth = self.truth(test)
                if truth is None:
                    return self._skip(*body, *orelse)
                return self.block(body if truth else orelse)
            case ast.For():
                return self._for(node)
            case ast.While():
                return self._while(node)
            case ast.Try():
                return self._try(node)
            case ast.Return(value=expression):
                self._return_value = None if expression is None else self.evaluate(expression)
                return "return"
            case ast.FunctionDef(name=name):
                self._define(node)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for alias in aliases:
                    path = module + alias.name if module or alias.asname else alias.name.split(".")[0]
                    is_ours = path.split(".")[0] == ROOT
                    self.frames[-1][alias.asname or path.removeprefix(module)] = (
                        PorticoPath(path) if is_ours else UNKNOWN
                    )
            case ast.Pass():
                pass
            case ast.Continue():
                return "continue"
            case ast.Break():
                return "break"
            case ast.Assert(test=test) if self.truth(test):
                pass
            case _:
                return self._skip(node)
        return ""

    def _for(self, node: ast.For) -> str:
        iterable = self.evaluate(node.iter)
        elements = self.elements(iterable)
        if elements is None:
            return self._skip(node)
        for element in elements:
            self.bind(node.target, element)
            end = self.block(node.body)
            if isinstance(iterable, Box) and len(iterable.content or ()) != len(elements):
                raise StopReading  # the body changes what the loop reads
            if end in {"break", "return"}:
                return end.removeprefix("break")
        return self.block(node.orelse)

    def _while(self, node: ast.While) -> str:
        while (truth := self.truth(node.test)) is True:
            end = self.block(node.body)
            if end in {"break", "return"}:
                return end.removeprefix("break")
        return self._skip(node) if truth is None else self.block(node.orelse)

    def _try(self, node: ast.Try) -> str:
        was_doubtful, self.tries = self.is_doubtful, self.tries + 1
        end = self.block([*node.body, *node.orelse])
        self.tries -= 1
        is_doubtful = self.is_doubtful
        exit_of_handlers = self._skip(*node.handlers, exits=is_doubtful)
        if is_doubtful:
            exit_of_handlers = self._skip(*node.body, *node.orelse) or exit_of_handlers
        self.is_doubtful = was_doubtful or (is_doubtful and self.tries > 0)
        return self.block(node.finalbody) or end or exit_of_handlers

    def _skip(self, *nodes: ast.AST, exits: bool = True) -> str:
        """Forget what statements can change. Return "skip" if they can end the current pass of a loop. Raise
        `StopReading` if they can end more. ``exits`` is false if the statements only run after an error.
        """
        if nodes:
            self.forget(nodes)
        ends = set(_ends(nodes)) if exits else set()
        if "stop" in ends:
            raise StopReading
        return "skip" if ends else ""

    def _define(self, node: ast.FunctionDef) -> None:
        parameters = node.args
        if node.decorator_list:
            raise StopReading
        self.forget([parameters, *([node.returns] if node.returns else [])])  # annotations are code that runs
        is_simple = not (
            parameters.vararg or parameters.kwarg or parameters.kwonlyargs or parameters.posonlyargs
        )
        if not is_simple or len(self.frames) > 1:
            self.forget([node])
            return
        names = [parameter.arg for parameter in parameters.args]
        defaults = [self.evaluate(default) for default in parameters.defaults]
        named_defaults = dict(zip(names[len(names) - len(defaults) :], defaults, strict=True))
        self.frames[-1][node.name] = _OwnFunction(node, named_defaults)

    def call(
        self, function: Any, positional: list[Any] | None, keyword_arguments: dict[str, Any] | None
    ) -> Any:
        match function:
            case PorticoPath(text=path):
                return self.fail() if positional != [] else self._call_portico(path, keyword_arguments)
            case _OwnFunction() if positional is not None and keyword_arguments is not None:
                return self._inline(function, positional, keyword_arguments)
        self.run_unknown_code()
        return self.fail()

    def _call_portico(self, path: str, keyword_arguments: dict[str, Any] | None) -> Any:
        try:
            digest = call_digest(path, self.plain(keyword_arguments or {}))
        except TypeError:
            return UNKNOWN
        if keyword_arguments is None or path not in self._paths or self.is_doubtful:
            return UNKNOWN
        number = self.calls[digest]
        self.calls[digest] += 1
        results = self._own_results.get(digest, ())
        return self.boxed(results[number]) if number < len(results) else UNKNOWN

    def _inline(
        self, function: _OwnFunction, positional: list[Any], keyword_arguments: dict[str, Any]
    ) -> Any:
        names = [parameter.arg for parameter in function.node.args.args]
        variables = {**function.defaults, **dict(zip(names, positional, strict=False)), **keyword_arguments}
        is_fitting = variables.keys() == set(names) and len(positional) <= len(names)
        if not is_fitting or len(self.frames) > MAX_FUNCTION_DEPTH:
            raise StopReading
        self.frames.append(variables)
        self._return_value = None
        self.block(function.node.body)
        self.frames.pop()
        return_value, self._return_value = self._return_value, None
        return return_value


def _ends(nodes: Iterable[ast.AST], is_in_loop: bool = False) -> Iterator[str]:
    """Yield "continue" and "stop" for the ways in which statements can end a pass of the loop around them, or more."""
    for node in nodes:
        match node:
            case ast.Return() | ast.Raise() | ast.Assert():
                yield "stop"
            case ast.Break() if not is_in_loop:
                yield "stop"
            case ast.Continue() if not is_in_loop:
                yield "continue"
            case ast.For(body=body, orelse=orelse) | ast.While(body=body, orelse=orelse):
                yield from _ends(body, True)
                yield from _ends(orelse, is_in_loop)
            case ast.FunctionDef() | ast.expr():
                pass
            case _:
                yield from _ends(ast.iter_child_nodes(node), is_in_loop)
