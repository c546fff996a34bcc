"""The calls that a program makes whatever data it reads.

They follow from the program's text. The text is read by a small interpreter that runs nothing: a value is certain, or
it is `UNKNOWN`, as all results of calls are. A call counts if its arguments are certain and no unknown value decides
whether the program reaches the call. Errors that end the program do not count as decisions.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from typing import Any, Final

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.features.tools.code_mode.functions import ROOT
from portico_server.features.tools.code_mode.shallow import is_shallow

MAX_STEPS: Final = 50_000
"""Maximum number of expressions and statements that are read. The calls of the rest of the program are unknown."""

MAX_TEXT_CHARS: Final = 100_000
MAX_ELEMENTS: Final = 10_000
MAX_NUMBER_BITS: Final = 256
MAX_FUNCTION_DEPTH: Final = 20

UNKNOWN: Final = object()
"""A value that can depend on data."""

_UNREADABLE: Final = (
    *(ast.ClassDef, ast.AsyncFunctionDef, ast.Global, ast.Nonlocal),
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.NamedExpr),
)
_REFLECTION: Final = frozenset(
    {"exec", "eval", "compile", "globals", "locals", "vars", "setattr", "delattr", "exit", "quit"}
)  # fmt: skip
_BUILTINS: Final = frozenset(
    {
        "str",
        "int",
        "float",
        "len",
        "range",
        "enumerate",
        "zip",
        "reversed",
        "list",
        "tuple",
        "dict",
        "set",
        "sorted",
        "sum",
        "min",
        "max",
        "abs",
        "bool",
        "print",
        "repr",
        "round",
        "isinstance",
        "type",
        "any",
        "all",
    }
)
_CONSUMERS: Final = frozenset({"list", "tuple", "dict", "set", "sorted", "sum", "min", "max"})
"""Builtins that read a generator to its end."""

_HARMLESS: Final = frozenset({"str", "print", "repr", "len", "bool", "type", "isinstance"})
"""Builtins that do not fail because of the data that they get."""

_PURE_METHODS: Final = frozenset(
    {
        "get",
        "items",
        "keys",
        "values",
        "join",
        "split",
        "splitlines",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "title",
        "format",
        "replace",
        "startswith",
        "endswith",
        "find",
        "index",
        "count",
        "zfill",
        "dumps",
        "loads",
        "match",
        "search",
        "findall",
        "sub",
        "isoformat",
        "strftime",
        "group",
        "isdigit",
    }
)
_MUTATORS: Final = frozenset(
    {
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
    }
)
_FORMAT: Final = re.compile(r"[<>^]?0?\d{0,2},?(\.\d{1,2})?[dsf]?")
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda member, container: member in container,
    ast.NotIn: lambda member, container: member not in container,
}


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
    tree = _parse(code)
    if tree is None or any(map(_is_unreadable, ast.walk(tree))):
        return Counter()
    reader = _CodeReader(
        paths, own_results, any(isinstance(node, ast.Raise | ast.Assert) for node in ast.walk(tree))
    )
    # After an error, the program fails as well, or its further calls are unknown.
    with suppress(_Stop, RecursionError, TypeError, ValueError, LookupError, ArithmeticError):
        reader.block(tree.body)
    return reader.calls


def _parse(code: str) -> ast.Module | None:
    try:
        return ast.parse(code) if is_shallow(code) else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_unreadable(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=name):
            return name in _REFLECTION or name.startswith("__")
        case ast.Attribute(attr=name):
            return name == "exit" or name.startswith("__")
        case ast.alias(name=name):
            return name == "*"
        case _:
            return isinstance(node, _UNREADABLE)


class _Stop(Exception):
    """The rest of the program can depend on data, or is too long to be read."""


class _Box:
    """A list or a dictionary of the program. ``content`` is ``None`` once the program can have changed it."""

    __slots__ = ("content",)

    def __init__(self, content: list[Any] | dict[Any, Any]) -> None:
        self.content: list[Any] | dict[Any, Any] | None = content


@dataclass(frozen=True, slots=True)
class _Path:
    """A module of Portico, or a function in it, such as ``portico.tools.refund``."""

    text: str


@dataclass(frozen=True, slots=True)
class _OwnFunction:
    """A function that the program defines on its top level, with the defaults of its last parameters."""

    node: ast.FunctionDef
    defaults: Mapping[str, Any]


class _CodeReader:
    """Reads a program and counts its calls. ``can_raise``: the program itself raises errors."""

    def __init__(
        self, paths: Collection[str], own_results: Mapping[bytes, Sequence[Any]], can_raise: bool
    ) -> None:
        self.calls: Counter[bytes] = Counter()
        self._paths = paths
        self._own_results = own_results
        self._can_raise = can_raise
        self._frames: list[dict[str, Any]] = [{ROOT: _Path(ROOT)}]
        self._boxes: list[_Box] = []
        self._steps = MAX_STEPS
        self._tries = 0
        self._is_doubtful = False
        """Whether an operation on unknown values in a ``try`` decides if the program reaches the next call."""
        self._return_value: Any = None

    # Statements. Each returns how the block ends: "" (after its last statement), "continue", "break", "return", or
    # "skip" if data decides whether the rest of a loop's body runs.

    def block(self, statements: Sequence[ast.stmt]) -> str:
        for number, statement in enumerate(statements):
            end = self._statement(statement)
            if end == "skip":
                self._skip(*statements[number + 1 :])
            if end:
                return end
        return ""

    def _statement(self, node: ast.stmt) -> str:
        self._charge(1)
        match node:
            case ast.Expr(value=expression):
                self.evaluate(expression)
            case ast.Assign(targets=targets, value=expression):
                certain = self.evaluate(expression)
                for target in targets:
                    self._bind(target, certain)
            case ast.AnnAssign(target=target, value=expression):
                if expression is not None:
                    self._bind(target, self.evaluate(expression))
            case ast.AugAssign(target=ast.Name(id=name), op=sign, value=expression):
                total, addend = self._look_up(name), self.evaluate(expression)
                if _is_scalar(total):
                    self._frames[-1][name] = self._combine(sign, total, addend)
                else:
                    self._disturb([node])
            case ast.If(test=test, body=body, orelse=orelse):
                truth = self._truth(self.evaluate(test))
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
                self._frames[-1][name] = self._function(node)
            case ast.Import(names=aliases):
                for alias in aliases:
                    name = alias.asname or alias.name.partition(".")[0]
                    is_ours = ROOT in (alias.name, name)
                    self._frames[-1][name] = _Path(ROOT) if is_ours else UNKNOWN
            case ast.ImportFrom(module=module, names=aliases):
                for alias in aliases:
                    is_ours = (module or "").split(".")[0] == ROOT
                    path = _Path(f"{module}.{alias.name}") if is_ours else UNKNOWN
                    self._frames[-1][alias.asname or alias.name] = path
            case ast.Pass():
                pass
            case ast.Continue():
                return "continue"
            case ast.Break():
                return "break"
            case ast.Assert(test=test):
                if self._truth(self.evaluate(test)) is not True:
                    raise _Stop
            case _:
                return self._skip(node)
        return ""

    def _for(self, node: ast.For) -> str:
        iterable = self.evaluate(node.iter)
        elements = self._elements(iterable)
        if elements is None:
            self._fail()
            return self._skip(node)
        for element in elements:
            self._bind(node.target, element)
            end = self.block(node.body)
            if isinstance(iterable, _Box) and len(iterable.content or ()) != len(elements):
                raise _Stop  # the body changes what the loop reads
            if end == "break":
                return ""
            if end == "return":
                return end
        return self.block(node.orelse)

    def _while(self, node: ast.While) -> str:
        while (truth := self._truth(self.evaluate(node.test))) is True:
            end = self.block(node.body)
            if end == "break":
                return ""
            if end == "return":
                return end
        return self._skip(node) if truth is None else self.block(node.orelse)

    def _try(self, node: ast.Try) -> str:
        was_doubtful, self._tries = self._is_doubtful, self._tries + 1
        end = self.block([*node.body, *node.orelse])
        self._tries -= 1
        exit_of_handlers = self._skip(*node.handlers, exits=self._is_doubtful)
        if self._is_doubtful:
            exit_of_handlers = self._skip(*node.body, *node.orelse) or exit_of_handlers
        self._is_doubtful = was_doubtful or (self._is_doubtful and self._tries > 0)
        return self.block(node.finalbody) or end or exit_of_handlers

    def _function(self, node: ast.FunctionDef) -> Any:
        arguments = node.args
        if node.decorator_list or arguments.vararg or arguments.kwarg or len(self._frames) > 1:
            return UNKNOWN
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        pairs = chain(
            zip(reversed(names), reversed(arguments.defaults), strict=False),
            zip((argument.arg for argument in arguments.kwonlyargs), arguments.kw_defaults, strict=True),
        )
        return _OwnFunction(
            node, {name: self.evaluate(default) for name, default in pairs if default is not None}
        )

    def _skip(self, *nodes: ast.AST, exits: bool = True) -> str:
        """Forget what statements can change. Return "skip" if they can end the current pass of a loop. Raise `_Stop` if
        they can end more.
        """
        self._disturb(nodes)
        ends = set(_ends(nodes)) if exits else set()
        has_calls = any(
            isinstance(inner, ast.Call)
            and isinstance(inner.func, ast.Name)
            and isinstance(self._look_up(inner.func.id), _OwnFunction)
            for node in nodes
            for inner in ast.walk(node)
        )
        if "stop" in ends or (exits and has_calls and self._can_raise):
            raise _Stop
        return "skip" if ends else ""

    def _disturb(self, nodes: Iterable[ast.AST]) -> None:
        """Forget the names that code binds, and the lists and dictionaries that it can change."""
        parts = [part for node in nodes for part in ast.walk(node)]
        self._charge(len(parts))
        sums = [part.target for part in parts if isinstance(part, ast.AugAssign)]
        bound_names = {name for part in parts if part not in sums for name in _bound_names(part)}
        for target in sums:
            if not isinstance(target, ast.Name):
                continue
            if target.id in bound_names or not _is_scalar(self._look_up(target.id)):
                self._change(target)  # the sum of lists changes the first list itself
            self._frames[-1][target.id] = UNKNOWN
        self._frames[-1].update(dict.fromkeys(bound_names, UNKNOWN))
        for part in parts:
            match part:
                case ast.Call():
                    self._disturb_by_call(part)
                case ast.Subscript(value=owner, ctx=ast.Store() | ast.Del()):
                    self._change(owner)
                case ast.Attribute(value=owner, ctx=ast.Store() | ast.Del()):
                    self._change(owner)

    def _change(self, owner: ast.expr) -> None:
        """Forget the list or dictionary that an expression names."""
        keyword_arguments = self._look_up(owner.id) if isinstance(owner, ast.Name) else UNKNOWN
        if isinstance(self._look_up(_root(owner)), _Path):
            raise _Stop  # the program replaces a function of Portico
        if isinstance(keyword_arguments, _Box):
            keyword_arguments.content = None
        else:
            self._forget_all()

    def _forget_all(self) -> None:
        for box in self._boxes:
            box.content = None

    def _disturb_by_call(self, node: ast.Call) -> None:
        """Forget the lists and dictionaries that a call can change."""
        match node.func:
            case ast.Name(id=name) if name in _BUILTINS and self._is_builtin(name):
                keys = [keyword.value for keyword in node.keywords if keyword.arg in ("key", None)]
                is_pure = all(isinstance(key, ast.Lambda) for key in keys)
            case ast.Attribute(attr=name, value=owner) if name in _MUTATORS:
                self._change(owner)
                is_pure = True
            case ast.Attribute(attr=name):
                root = _root(node.func)
                is_pure = name in _PURE_METHODS or isinstance(self._look_up(root), _Path)
            case ast.Name(id=name):
                is_pure = isinstance(self._look_up(name), _Path)
            case _:
                is_pure = False
        if not is_pure:
            self._forget_all()

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression, or `UNKNOWN`."""
        self._charge(1)
        match node:
            case ast.Constant(value=literal):
                return literal if literal is None or isinstance(literal, str | int | float) else UNKNOWN
            case ast.Name(id=name):
                return self._look_up(name)
            case ast.JoinedStr(values=parts):
                return self._join([self._format(part) for part in parts])
            case ast.List(elts=parts):
                elements = self._evaluate_all(parts)
                return UNKNOWN if elements is None else self._box(elements)
            case ast.Tuple(elts=parts):
                elements = self._evaluate_all(parts)
                return UNKNOWN if elements is None else tuple(elements)
            case ast.Dict(keys=keys, values=parts):
                return self._dictionary(keys, parts)
            case ast.BinOp(left=first_operand, op=sign, right=right):
                return self._combine(sign, self.evaluate(first_operand), self.evaluate(right))
            case ast.UnaryOp(op=sign, operand=operand):
                return self._negate(sign, self.evaluate(operand))
            case ast.BoolOp(op=sign, values=parts):
                return self._choose(isinstance(sign, ast.Or), parts)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                truth = self._truth(self.evaluate(test))
                if truth is not None:
                    return self.evaluate(body if truth else orelse)
                self._skip(body, orelse)
                return UNKNOWN
            case ast.ListComp(elt=element, generators=generators):
                return self._comprehend(node, generators, lambda: self.evaluate(element))
            case ast.DictComp(key=key, value=element, generators=generators):
                pairs = self._comprehend(
                    node, generators, lambda: (self.evaluate(key), self.evaluate(element))
                )
                return UNKNOWN if pairs is UNKNOWN else self._dictionary_of(pairs.content)
            case ast.Subscript(value=owner, slice=index):
                return self._subscript(self.evaluate(owner), index)
            case ast.Attribute(value=owner, attr=name):
                module = self.evaluate(owner)
                return _Path(f"{module.text}.{name}") if isinstance(module, _Path) else self._fail()
            case ast.NamedExpr(target=target, value=expression):
                certain = self.evaluate(expression)
                self._bind(target, certain)
                return certain
            case ast.Call():
                return self._call(node)
            case _:
                self._skip(node)
                return UNKNOWN

    def _evaluate_all(self, nodes: Iterable[ast.expr]) -> list[Any] | None:
        """Return the values of expressions, or ``None`` if their number is unknown."""
        out: list[Any] = []
        is_certain = True
        for node in nodes:
            if isinstance(node, ast.Starred):
                elements = self._elements(self.evaluate(node.value))
                is_certain = is_certain and elements is not None
                out += elements or ()
            else:
                out.append(self.evaluate(node))
        return out if is_certain else None

    def _format(self, node: ast.expr) -> Any:
        if not isinstance(node, ast.FormattedValue):
            return self.evaluate(node)
        operand = self.evaluate(node.value)
        pattern: Any = ""
        if node.format_spec is not None:
            pattern = self.evaluate(node.format_spec)
        if not _is_scalar(operand) or not isinstance(pattern, str) or not _FORMAT.fullmatch(pattern):
            return UNKNOWN
        if node.conversion != -1:
            operand = str(operand) if node.conversion == ord("s") else repr(operand)
        return format(operand, pattern)

    def _join(self, parts: Sequence[Any], separator: str = "") -> Any:
        if not all(isinstance(part, str) for part in parts):
            return UNKNOWN
        self._charge_text(sum(map(len, parts)) + len(separator) * len(parts))
        return separator.join(parts)

    def _dictionary(self, keys: Sequence[ast.expr | None], nodes: Sequence[ast.expr]) -> Any:
        pairs: list[tuple[Any, Any]] = []
        is_certain = True
        for key, node in zip(keys, nodes, strict=True):
            name = UNKNOWN if key is None else self.evaluate(key)
            element = self.evaluate(node)
            if key is None and isinstance(element, _Box) and isinstance(element.content, dict):
                pairs += element.content.items()
            else:
                is_certain = is_certain and key is not None
                pairs.append((name, element))
        return self._dictionary_of(pairs) if is_certain else UNKNOWN

    def _dictionary_of(self, pairs: Iterable[Any]) -> Any:
        pairs = list(pairs)
        if not all(isinstance(pair, tuple) and len(pair) == 2 and _is_scalar(pair[0]) for pair in pairs):
            return UNKNOWN
        return self._box(dict(pairs))

    def _combine(self, sign: ast.operator, first_operand: Any, right: Any) -> Any:
        work = _ARITHMETIC.get(type(sign))
        if first_operand is UNKNOWN or right is UNKNOWN or work is None:
            return self._fail()
        match sign, first_operand, right:
            case ast.Add(), str(), str():
                return self._join((first_operand, right))
            case ast.Add(), _Box(content=list() as head), _Box(content=list() as tail):
                return self._box(head + tail)
        if _is_number(first_operand) and _is_number(right):
            self._charge(1 + (_bits(first_operand) + _bits(right)) // MAX_NUMBER_BITS * MAX_STEPS)
            return work(first_operand, right)
        return self._fail()

    def _negate(self, sign: ast.unaryop, operand: Any) -> Any:
        if isinstance(sign, ast.Not):
            truth = self._truth(operand)
            return UNKNOWN if truth is None else not truth
        if isinstance(sign, ast.USub | ast.UAdd) and _is_number(operand):
            return -operand if isinstance(sign, ast.USub) else operand
        return self._fail()

    def _choose(self, is_or: bool, nodes: Sequence[ast.expr]) -> Any:
        for number, node in enumerate(nodes):
            operand = self.evaluate(node)
            truth = self._truth(operand)
            if truth is None:
                self._skip(*nodes[number + 1 :])
                return UNKNOWN
            if truth is is_or:
                return operand
        return operand

    def _compare(self, node: ast.Compare) -> Any:
        first_operand = self.evaluate(node.left)
        for number, (sign, comparator) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self.evaluate(comparator)
            truth = self._comparison(sign, first_operand, right)
            if truth is UNKNOWN:
                self._skip(*node.comparators[number + 1 :])
            if truth is UNKNOWN or not truth:
                return truth
            first_operand = right
        return True

    def _comparison(self, sign: ast.cmpop, first_operand: Any, right: Any) -> Any:
        if isinstance(sign, ast.Is | ast.IsNot):
            if not (_is_scalar(first_operand) and right is None):
                return UNKNOWN
            return (first_operand is None) is isinstance(sign, ast.Is)
        if isinstance(sign, ast.In | ast.NotIn) and not isinstance(right, str):
            members = self._elements(right)
            if members is None or not all(map(_is_scalar, [first_operand, *members])):
                return self._fail()
            right = members
        elif not _is_scalar(first_operand) or not _is_scalar(right):
            return self._fail()
        return _COMPARISONS[type(sign)](first_operand, right)

    def _comprehend(
        self, node: ast.expr, generators: Sequence[ast.comprehension], element: Callable[[], Any]
    ) -> Any:
        """Return the list that a comprehension makes."""
        frame = self._frames[-1]
        own_names = {name for part in ast.walk(node) for name in _bound_names(part)}
        outer = {name: frame[name] for name in own_names if name in frame}
        out: list[Any] = []
        is_certain = self._generate(generators, element, out)
        for name in own_names:
            frame.pop(name, None)
        frame.update(outer)
        if is_certain:
            return self._box(out)
        self._skip(node)
        return self._fail()

    def _generate(
        self, generators: Sequence[ast.comprehension], element: Callable[[], Any], out: list[Any]
    ) -> bool:
        if not generators:
            out.append(element())
            return True
        elements = self._elements(self.evaluate(generators[0].iter))
        for member in elements or ():
            self._bind(generators[0].target, member)
            truths = (self._truth(self.evaluate(test)) for test in generators[0].ifs)
            refusal = next((truth for truth in truths if not truth), True)
            if refusal is None or (refusal and not self._generate(generators[1:], element, out)):
                return False
        return elements is not None

    def _subscript(self, owner: Any, node: ast.expr) -> Any:
        if isinstance(node, ast.Slice):
            bounds = [
                None if part is None else self.evaluate(part) for part in (node.lower, node.upper, node.step)
            ]
            if not all(limit is None or isinstance(limit, int) for limit in bounds):
                return self._fail()
            sequence = owner.content if isinstance(owner, _Box) else owner
            if not isinstance(sequence, str | list | tuple):
                return self._fail()
            self._charge(len(sequence) // 50)
            part = sequence[slice(*bounds)]
            return self._box(part) if isinstance(part, list) else part
        index = self.evaluate(node)
        sequence = owner.content if isinstance(owner, _Box) else owner
        if not isinstance(sequence, str | list | tuple | dict) or not _is_scalar(index):
            return self._fail()
        return sequence[index]

    def _call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in _BUILTINS and self._is_builtin(name):
            return self._built_in(name, node)
        if isinstance(node.func, ast.Attribute):
            owner = self.evaluate(node.func.value)
            if not isinstance(owner, _Path):
                return self._method(owner, node.func.attr, node)
            function: Any = _Path(f"{owner.text}.{node.func.attr}")
        else:
            function = self.evaluate(node.func)
        positional, keyword_arguments = self._arguments(node)
        if isinstance(function, _Path) and function.text in self._paths:
            return self._portico_call(function.text, positional, keyword_arguments)
        if (
            isinstance(function, _OwnFunction)
            and name
            and positional is not None
            and keyword_arguments is not None
        ):
            return self._inline(function, positional, keyword_arguments)
        self._disturb_by_call(node)
        return self._fail()

    def _arguments(
        self, node: ast.Call, *, is_consumer: bool = False
    ) -> tuple[list[Any] | None, dict[str, Any] | None]:
        """Return the values of a call's arguments, by position and by name; ``None`` if their number is unknown.
        ``is_consumer``: the function reads a generator to its end.
        """
        match node.args:
            case [ast.GeneratorExp(elt=element, generators=generators) as inner] if is_consumer:
                return [self._comprehend(inner, generators, lambda: self.evaluate(element))], {}
        positional = self._evaluate_all(node.args)
        keyword_arguments: dict[str, Any] | None = {}
        for keyword in node.keywords:
            argument = self.evaluate(keyword.value)
            if keyword.arg is not None:
                keyword_arguments = (
                    None if keyword_arguments is None else {**keyword_arguments, keyword.arg: argument}
                )
            elif (
                keyword_arguments is not None
                and isinstance(argument, _Box)
                and isinstance(argument.content, dict)
            ):
                keyword_arguments = {**keyword_arguments, **argument.content}
            else:
                keyword_arguments = None
        return positional, keyword_arguments

    def _portico_call(
        self, path: str, positional: list[Any] | None, keyword_arguments: dict[str, Any] | None
    ) -> Any:
        try:
            digest = call_digest(path, self._plain(self._box(keyword_arguments or {})))
        except TypeError:
            return UNKNOWN
        if positional or positional is None or keyword_arguments is None or self._is_doubtful:
            return UNKNOWN
        number = self.calls[digest]
        self.calls[digest] += 1
        results = self._own_results.get(digest, ())
        return self._boxed(results[number]) if number < len(results) else UNKNOWN

    def _inline(
        self, function: _OwnFunction, positional: list[Any], keyword_arguments: dict[str, Any]
    ) -> Any:
        arguments = function.node.args
        names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
        bindings = {**function.defaults, **dict(zip(names, positional, strict=False)), **keyword_arguments}
        every_name = {*names, *(argument.arg for argument in arguments.kwonlyargs)}
        if (
            bindings.keys() != every_name
            or len(positional) > len(names)
            or len(self._frames) > MAX_FUNCTION_DEPTH
        ):
            raise _Stop
        self._frames.append(bindings)
        self._return_value = None
        self.block(function.node.body)
        self._frames.pop()
        return_value, self._return_value = self._return_value, None
        return return_value

    def _built_in(self, name: str, node: ast.Call) -> Any:
        arguments, keyword_arguments = self._arguments(node, is_consumer=name in _CONSUMERS)
        self._disturb_by_call(node)
        if name == "print":
            return None
        if arguments is None or keyword_arguments is None:
            return self._fail()
        if name == "dict" and not arguments:
            return self._box(keyword_arguments)
        if keyword_arguments and name != "zip":
            return self._fail()
        certain = self._built_in_value(name, arguments)
        if certain is UNKNOWN and name not in _HARMLESS:
            self._fail()
        return certain

    def _built_in_value(self, name: str, arguments: list[Any]) -> Any:
        first = arguments[0] if arguments else UNKNOWN
        if all(map(_is_scalar, arguments)):
            match name, arguments:
                case "range", _ if all(isinstance(limit, int) for limit in arguments):
                    numbers = range(*arguments)
                    self._charge(min(len(numbers), MAX_STEPS) if len(numbers) <= MAX_ELEMENTS else MAX_STEPS)
                    return tuple(numbers)
                case "str", [operand]:
                    return str(operand)
                case "int", [str() | int() | float() as number]:
                    return int(number)
                case "float", [str() | int() | float() as number]:
                    return float(number)
                case "bool", [operand]:
                    return bool(operand)
                case "abs", [int() | float() as number]:
                    return abs(number)
                case (("min" | "max"), [_, _, *_]):
                    return min(arguments) if name == "min" else max(arguments)
        lists = [self._elements(argument) for argument in arguments]
        elements = lists[0] if lists else None
        match name:
            case "len" if elements is not None and len(lists) == 1:
                return len(elements)
            case "list" if not arguments:
                return self._box([])
            case "dict" if isinstance(first, _Box) and isinstance(first.content, dict):
                return self._box(dict(first.content))
            case "zip":
                known_lists = [members for members in lists if members is not None]
                return tuple(zip(*known_lists, strict=False)) if len(known_lists) == len(lists) else UNKNOWN
        if elements is None or len(arguments) != 1:
            return UNKNOWN
        match name:
            case "enumerate":
                return tuple(enumerate(elements))
            case "reversed":
                return tuple(reversed(elements))
            case "tuple":
                return tuple(elements)
            case "list":
                return self._box(list(elements))
            case "dict":
                return self._dictionary_of(elements)
            case "sorted" if all(map(_is_scalar, elements)):
                return self._box(sorted(elements))
            case "sum" if all(map(_is_number, elements)):
                return sum(elements)
            case "min" | "max" if all(map(_is_scalar, elements)):
                return min(elements) if name == "min" else max(elements)
        return UNKNOWN

    def _method(self, owner: Any, name: str, node: ast.Call) -> Any:
        arguments, keyword_arguments = self._arguments(
            node, is_consumer=isinstance(owner, str) and name == "join"
        )
        match owner, name, arguments:
            case _Box(content=list() as members), "append", [element]:
                members.append(element)
                return None
        self._disturb_by_call(node)
        if arguments is None or keyword_arguments:
            return self._fail()
        match owner, name, arguments:
            case _Box(content=dict() as content), ("items" | "keys" | "values"), []:
                return tuple(
                    content.items() if name == "items" else content if name == "keys" else content.values()
                )
            case _Box(content=dict() as content), "get", [key, *default] if _is_scalar(key):
                return content.get(key, default[0] if default else None)
            case str(), "join", [members]:
                elements = self._elements(members)
                return self._fail() if elements is None else self._join(elements, owner)
            case str(), ("upper" | "lower" | "strip" | "title"), []:
                return getattr(owner, name)()
            case str(), ("startswith" | "endswith"), [str() as part]:
                return getattr(owner, name)(part)
            case str(), "split", [] | [str()]:
                self._charge(len(owner) // 50)
                return self._box(list(owner.split(*arguments)))
            case str(), "replace", [str() as old, str() as new]:
                self._charge_text(len(owner) + (owner.count(old) * len(new)))
                return owner.replace(old, new)
        return self._fail()

    def _is_builtin(self, name: str) -> bool:
        return name not in self._frames[-1] and name not in self._frames[0]

    def _look_up(self, name: str) -> Any:
        frame = self._frames[-1]
        return frame[name] if name in frame else self._frames[0].get(name, UNKNOWN)

    def _bind(self, target: ast.expr, assigned_value: Any) -> None:
        match target:
            case ast.Name(id=name):
                self._frames[-1][name] = assigned_value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                elements = self._elements(assigned_value)
                if elements is None or any(isinstance(part, ast.Starred) for part in parts):
                    self._fail()
                    elements = [UNKNOWN] * len(parts)
                for part, element in zip(parts, elements, strict=True):
                    self._bind(part, element)
            case ast.Starred(value=inner):
                self._bind(inner, UNKNOWN)
            case _:
                self._disturb([target])

    def _box(self, content: list[Any] | dict[Any, Any]) -> _Box:
        self._charge(1 + len(content) // 10)
        box = _Box(content)
        self._boxes.append(box)
        return box

    def _boxed(self, document: Any) -> Any:
        """Return a JSON value as a value of the program."""
        self._charge(1)
        if isinstance(document, dict):
            return self._box({key: self._boxed(member) for key, member in document.items()})
        return self._box(list(map(self._boxed, document))) if isinstance(document, list) else document

    def _plain(self, argument: Any) -> Any:
        """Return a value as JSON. Raise `TypeError` if a part of it is unknown."""
        self._charge(1 + len(argument) // 50 if isinstance(argument, str) else 1)
        match argument:
            case _Box(content=list() as members) | (tuple() as members):
                return list(map(self._plain, members))
            case _Box(content=dict() as members):
                return {key: self._plain(member) for key, member in members.items()}
            case _ if _is_scalar(argument):
                return argument
        raise TypeError("The argument is not certain.")

    def _elements(self, iterable: Any) -> list[Any] | None:
        """Return the elements over which a loop goes, or ``None``."""
        members = iterable.content if isinstance(iterable, _Box) else iterable
        if not isinstance(members, str | list | tuple | dict):
            return None
        self._charge(1 + len(members) // 50)
        return list(members)

    def _truth(self, operand: Any) -> bool | None:
        operand = operand.content if isinstance(operand, _Box) else operand
        is_readable = operand is None or isinstance(operand, str | int | float | list | tuple | dict)
        return bool(operand) if is_readable and operand is not UNKNOWN else None

    def _fail(self) -> Any:
        """Note an operation that data can make fail. Return `UNKNOWN`."""
        self._is_doubtful = self._is_doubtful or self._tries > 0
        return UNKNOWN

    def _charge_text(self, length: int) -> None:
        self._charge(length // 50 if length <= MAX_TEXT_CHARS else MAX_STEPS)

    def _charge(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _Stop


def _is_scalar(operand: Any) -> bool:
    return operand is None or isinstance(operand, str | int | float)


def _is_number(operand: Any) -> bool:
    return isinstance(operand, int | float)


def _bits(number: float) -> int:
    return number.bit_length() if isinstance(number, int) else 64


def _root(node: ast.expr) -> str:
    """Return the name with which a chain of attributes begins; empty for other expressions."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bound_names(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.ExceptHandler(name=str() as name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
            yield name


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
