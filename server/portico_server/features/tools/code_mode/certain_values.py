"""The values of a program's expressions, as far as they follow from the program's text.

`ExpressionReader` is an interpreter that runs nothing. A value is certain if the program computes it in each run,
whatever data the program reads. All other values are `UNKNOWN`, such as the results of expressions that are not listed
in `ExpressionReader.evaluate`: to drop an expression from it is always safe.

- A list or dictionary is a `Box`. If unknown values decide whether code changes a box, its content becomes unknown.
- Code that the reader cannot follow, such as a called lambda, can change each box, at once and later.
- An operation on unknown values in a ``try`` is doubtful: data decides whether it fails, and so whether the statements
  after it run. Outside of a ``try``, its failure ends the program, and no further call follows.
- `StopReading` ends the reading where nothing further is certain, and at the limits.
"""

from __future__ import annotations

import ast
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeGuard

from portico_server.core.dataclass import dataclass
from portico_server.features.tools.code_mode.functions import ROOT

MAX_STEPS: Final = 50_000
"""Maximum number of expressions and statements that are read. The calls of the rest of the program are unknown."""

MAX_TEXT_CHARS: Final = 100_000
MAX_ELEMENTS: Final = 10_000
MAX_NUMBER_BITS: Final = 256

UNKNOWN: Final = object()
"""A value that can depend on data."""

_SCALAR_BUILTINS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "str": str, "int": int, "float": float, "bool": bool,
}  # fmt: skip
_LIST_BUILTINS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "len": len, "list": list, "tuple": tuple, "enumerate": lambda elements: tuple(enumerate(elements)),
}  # fmt: skip
_REDUCTIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "sorted": sorted, "sum": sum, "min": min, "max": max,
}  # fmt: skip
"""Builtins that are certain for lists of texts and numbers."""

_BUILTINS: Final = _SCALAR_BUILTINS.keys() | _LIST_BUILTINS.keys() | _REDUCTIONS.keys() | {
    "range", "zip", "reversed", "dict", "set", "abs", "print", "repr", "round", "isinstance", "any", "all",
}  # fmt: skip
_CONSUMERS: Final = _REDUCTIONS.keys() | {"list", "tuple", "dict", "set", "join"}
"""Functions that read a generator to its end."""

_HARMLESS: Final = frozenset({"str", "print", "repr", "bool", "isinstance"})
"""Builtins that do not fail because of the data that they get."""

_TEXT_METHODS: Final = frozenset({
    "upper", "lower", "strip", "title", "startswith", "endswith", "split", "replace",
})  # fmt: skip
_PURE_METHODS: Final = _TEXT_METHODS | {
    "get", "items", "keys", "values", "join", "splitlines", "lstrip", "rstrip", "format", "find", "index", "count",
    "zfill", "dumps", "loads", "match", "search", "findall", "isoformat", "strftime", "now", "today", "group",
    "isdigit",
}  # fmt: skip
"""Methods that change nothing and call no function of the program, except one among their keyword arguments."""

_MUTATORS: Final = frozenset({
    "append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "setdefault", "popitem", "add",
    "discard",
})  # fmt: skip
_NAME_FIELDS: Final = ("name", "asname", "rest")
"""Fields of functions, handlers, imports and patterns that contain a name that they bind."""

_FORMAT: Final = re.compile(r"[<>^]?0?\d{0,2},?(\.\d{1,2})?[dsf]?")
_ARITHMETIC: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARISONS: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq, ast.Lt: operator.lt, ast.Gt: operator.gt,
    ast.NotEq: operator.ne, ast.LtE: operator.le, ast.GtE: operator.ge,
    ast.In: lambda member, members: member in members, ast.NotIn: lambda member, members: member not in members,
}  # fmt: skip


class StopReading(Exception):
    """The rest of the program can depend on data, or is too long to be read."""


class Box:
    """A list or a dictionary of the program. ``content`` is ``None`` once the program can have changed it."""

    __slots__ = ("content",)

    def __init__(self, content: list[Any] | dict[Any, Any]) -> None:
        self.content: list[Any] | dict[Any, Any] | None = content


@dataclass(frozen=True, slots=True)
class PorticoPath:
    """A module of Portico, or a function in it, such as ``portico.tools.refund``."""

    text: str

    def member(self, name: str) -> PorticoPath:
        """Return a member of a module."""
        return PorticoPath(f"{self.text}.{name}")


class ExpressionReader(ABC):
    """Computes the certain values of expressions. ``can_raise``: the program itself raises errors."""

    def __init__(self, can_raise: bool) -> None:
        self.frames: list[dict[str, Any]] = [{ROOT: PorticoPath(ROOT)}]
        """The variables: those of the program, then those of the functions and comprehensions that are being read."""
        self.tries = 0
        self.is_doubtful = False
        self._can_raise = can_raise
        self._boxes: list[Box] = []
        self._is_code_hidden = False
        """Whether code that the reader does not follow can change lists at any time."""
        self._steps = MAX_STEPS

    @abstractmethod
    def call(
        self, function: Any, positional: list[Any] | None, keyword_arguments: dict[str, Any] | None
    ) -> Any:
        """Return the result of a function that is neither built in nor a method. Arguments whose number or names are
        unknown are ``None``.
        """

    def evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression, or `UNKNOWN`."""
        self.charge(1)
        match node:
            case ast.Constant(value=literal):
                return literal if is_scalar(literal) else UNKNOWN
            case ast.Name(id=name):
                return self.look_up(name)
            case ast.JoinedStr(values=parts):
                return self._join([self._format(part) for part in parts])
            case ast.List(elts=parts):
                return self._box(self._evaluate_all(parts))
            case ast.Tuple(elts=parts):
                elements = self._evaluate_all(parts)
                return UNKNOWN if elements is None else tuple(elements)
            case ast.Dict(keys=keys, values=parts):
                return self._box(self._entries(keys, parts))
            case ast.BinOp(left=left_node, op=sign, right=right_node):
                return self.combine(sign, self.evaluate(left_node), self.evaluate(right_node))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                truth = self.truth(operand)
                return UNKNOWN if truth is None else not truth
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.combine(ast.Sub(), 0, self.evaluate(operand))
            case ast.BoolOp(op=sign, values=parts):
                return self._choose(isinstance(sign, ast.Or), parts)
            case ast.Compare(left=left_node, ops=[sign], comparators=[right_node]):
                return self._compare(sign, self.evaluate(left_node), self.evaluate(right_node))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                truth = self.truth(test)
                if truth is not None:
                    return self.evaluate(body if truth else orelse)
                self.forget([body, orelse])
                return UNKNOWN
            case ast.ListComp(elt=element, generators=[generator]):
                return self._box(self._comprehend(generator, element))
            case ast.DictComp(key=key, value=element, generators=[generator]):
                pairs = self._comprehend(generator, ast.Tuple([key, element], ast.Load()))
                if pairs is None or not all(is_scalar(name) for name, _ in pairs):
                    return self.fail()
                return self._box(dict(pairs))
            case ast.Subscript(value=owner, slice=index):
                return self._subscript(self.evaluate(owner), index)
            case ast.Attribute(value=owner, attr=name):
                module = self.evaluate(owner)
                return module.member(name) if isinstance(module, PorticoPath) else self.fail()
            case ast.Call():
                return self._call(node)
        self.forget([node])
        return UNKNOWN

    def _evaluate_all(self, nodes: Sequence[ast.expr]) -> list[Any] | None:
        """Return the values of expressions, or ``None`` if their number is unknown."""
        elements = [self.evaluate(node) for node in nodes]
        return None if any(isinstance(node, ast.Starred) for node in nodes) else elements

    def _entries(self, keys: Iterable[ast.expr | None], nodes: Iterable[ast.expr]) -> dict[Any, Any] | None:
        """Return the entries of a dictionary, or ``None`` if a key is unknown. The key of a ``**`` part is ``None``."""
        entries: dict[Any, Any] = {}
        is_certain = True
        for key, node in zip(keys, nodes, strict=True):
            name = None if key is None else self.evaluate(key)
            member = self.evaluate(node)
            addition: Any = {name: member} if is_scalar(name) else None
            if key is None:
                addition = member.content if isinstance(member, Box) else None
            if isinstance(addition, dict):
                entries |= addition
            else:
                is_certain = False
                self.fail()
        return entries if is_certain else None

    def _format(self, node: ast.expr) -> Any:
        if not isinstance(node, ast.FormattedValue):
            return self.evaluate(node)
        operand = self.evaluate(node.value)
        pattern = "" if node.format_spec is None else self.evaluate(node.format_spec)
        if not is_scalar(operand) or not isinstance(pattern, str) or not _FORMAT.fullmatch(pattern):
            return UNKNOWN if pattern == "" else self.fail()
        return format(operand, pattern) if node.conversion == -1 else UNKNOWN

    def _join(self, parts: Sequence[Any], separator: str = "") -> Any:
        if not all(isinstance(part, str) for part in parts):
            return UNKNOWN
        self._charge_text(sum(map(len, parts)) + len(separator) * len(parts))
        return separator.join(parts)

    def combine(self, sign: ast.operator, first_operand: Any, right: Any) -> Any:
        """Return the value of an arithmetic operation."""
        work = _ARITHMETIC.get(type(sign))
        match sign, first_operand, right:
            case ast.Add(), str(), str():
                return self._join((first_operand, right))
            case ast.Add(), Box(content=list() as head), Box(content=list() as tail):
                return self._box(head + tail)
            case _, int() | float(), int() | float() if work is not None:
                bits = sum(
                    number.bit_length() for number in (first_operand, right) if isinstance(number, int)
                )
                self.charge(1 + bits // MAX_NUMBER_BITS * MAX_STEPS)
                return work(first_operand, right)
        return self.fail()

    def _choose(self, is_or: bool, nodes: Sequence[ast.expr]) -> Any:
        for number, node in enumerate(nodes):
            operand = self.evaluate(node)
            truth = _truth(operand)
            if truth is None:
                self.forget(nodes[number + 1 :])
                return UNKNOWN
            if truth is is_or:
                return operand
        return operand

    def _compare(self, sign: ast.cmpop, first_operand: Any, right: Any) -> Any:
        if isinstance(sign, ast.Is | ast.IsNot):
            is_certain = is_scalar(first_operand) and right is None
            return (first_operand is None) is isinstance(sign, ast.Is) if is_certain else UNKNOWN
        if isinstance(sign, ast.In | ast.NotIn) and not isinstance(right, str):
            right = self.elements(right)
            is_certain = right is not None and all(map(is_scalar, right))
        else:
            is_certain = is_scalar(right)
        return (
            _COMPARISONS[type(sign)](first_operand, right)
            if is_certain and is_scalar(first_operand)
            else self.fail()
        )

    def _comprehend(self, generator: ast.comprehension, element: ast.expr) -> list[Any] | None:
        """Return the elements that a comprehension makes, or ``None``. Its variables are its own."""
        members = self.elements(self.evaluate(generator.iter))
        self.charge(len(self.frames[-1]) // 10)
        self.frames.append({**self.frames[-1]})
        elements: list[Any] | None = None if members is None else []
        for member in members or ():
            self.bind(generator.target, member)
            truth = next((truth for truth in map(self.truth, generator.ifs) if not truth), True)
            if truth is None or elements is None:
                elements = None
                break
            if truth:
                elements.append(self.evaluate(element))
        if elements is None:
            self.forget([generator, element])
        self.frames.pop()
        return elements

    def _subscript(self, owner: Any, node: ast.expr) -> Any:
        sequence = owner.content if isinstance(owner, Box) else owner
        if isinstance(node, ast.Slice):
            limits = [
                None if part is None else self.evaluate(part) for part in (node.lower, node.upper, node.step)
            ]
            if not isinstance(sequence, str | list | tuple) or not all(map(is_scalar, limits)):
                return self.fail()
            self.charge(len(sequence) // 50)
            return self.boxed(sequence[slice(*limits)])
        index = self.evaluate(node)
        if not isinstance(sequence, str | list | tuple | dict) or not is_scalar(index):
            return self.fail()
        return sequence[index]

    def _call(self, node: ast.Call) -> Any:
        match node.func:
            case ast.Name(id=name) if self._is_builtin(name):
                return self._known_call(node, name, _BUILTINS)
            case ast.Attribute(value=owner_node, attr=name):
                owner = self.evaluate(owner_node)
                if not isinstance(owner, PorticoPath):
                    return self._known_call(node, name, owner)
                function: Any = owner.member(name)
            case _:
                function = self.evaluate(node.func)
        return self.call(function, *self._arguments(node))

    def _arguments(
        self, node: ast.Call, *, is_consumer: bool = False
    ) -> tuple[list[Any] | None, dict[str, Any] | None]:
        """Return the arguments of a call, by position and by name; ``None`` if their number or names are unknown."""
        match node.args:
            case [ast.GeneratorExp(elt=element, generators=[generator])] if is_consumer:
                positional: list[Any] | None = [self._box(self._comprehend(generator, element))]
            case _:
                positional = self._evaluate_all(node.args)
        names = [None if keyword.arg is None else ast.Constant(keyword.arg) for keyword in node.keywords]
        return positional, self._entries(names, [keyword.value for keyword in node.keywords])

    def _known_call(self, node: ast.Call, name: str, owner: Any) -> Any:
        """Return the result of a method, or of a builtin; its ``owner`` is `_BUILTINS`."""
        arguments, keyword_arguments = self._arguments(node, is_consumer=name in _CONSUMERS)
        match owner, name, arguments:
            case Box(content=list() as members), "append", [element]:
                members.append(element)
                return None
        self._forget_by_call(node)
        is_builtin = owner is _BUILTINS
        certain = UNKNOWN
        if arguments is not None and keyword_arguments == {}:
            certain = self._built_in(name, arguments) if is_builtin else self._method(owner, name, arguments)
        return self.fail() if certain is UNKNOWN and not (is_builtin and name in _HARMLESS) else certain

    def _built_in(self, name: str, arguments: list[Any]) -> Any:
        match name, arguments:
            case "range", _ if all(map(is_scalar, arguments)):
                numbers = range(*arguments)
                self.charge(len(numbers) if len(numbers) <= MAX_ELEMENTS else MAX_STEPS)
                return tuple(numbers)
            case "zip", _:
                lists = [elements for elements in map(self.elements, arguments) if elements is not None]
                return tuple(zip(*lists, strict=False)) if len(lists) == len(arguments) else UNKNOWN
            case _, [operand] if name in _SCALAR_BUILTINS:
                return _SCALAR_BUILTINS[name](operand) if is_scalar(operand) else UNKNOWN
            case _, [iterable]:
                elements = self.elements(iterable)
                work = _LIST_BUILTINS.get(name)
                if elements is not None and all(map(is_scalar, elements)):
                    work = work or _REDUCTIONS.get(name)
                return UNKNOWN if elements is None or work is None else self.boxed(work(elements))
        return UNKNOWN

    def _method(self, owner: Any, name: str, arguments: list[Any]) -> Any:
        match owner, name, arguments:
            case Box(content=dict() as content), ("items" | "keys" | "values"), []:
                self.charge(len(content) // 10)
                return tuple(getattr(content, name)())
            case Box(content=dict() as content), "get", [key, *default] if is_scalar(key):
                return content.get(key, default[0] if default else None)
            case str(), "join", [members]:
                elements = self.elements(members)
                return UNKNOWN if elements is None else self._join(elements, owner)
            case str(), _, _ if name in _TEXT_METHODS and all(isinstance(part, str) for part in arguments):
                growth = owner.count(arguments[0]) * len(arguments[1]) if len(arguments) == 2 else 0
                self._charge_text(len(owner) + growth)
                return self.boxed(getattr(owner, name)(*arguments))
        return UNKNOWN

    def forget(self, nodes: Iterable[ast.AST]) -> None:
        """Forget the names that code binds, and the lists and dictionaries that it can change. The code can fail."""
        self.fail()
        parts = [part for node in nodes for part in ast.walk(node)]
        self.charge(len(parts))
        sums = {part.target for part in parts if isinstance(part, ast.AugAssign)}
        fields = [getattr(part, field, None) for part in parts for field in _NAME_FIELDS]
        names = {name.partition(".")[0] for name in fields if isinstance(name, str)}
        names |= {part.id for part in parts if _is_bound(part) and part not in sums}
        for target in filter(_is_bound, sums):
            # The sum of lists changes the first list itself.
            if target.id in names or not is_scalar(self.look_up(target.id)):
                self._change(target)
            self.frames[-1][target.id] = UNKNOWN
        self.frames[-1].update(dict.fromkeys(names, UNKNOWN))
        is_lazy = any(isinstance(part, ast.GeneratorExp) for part in parts)
        for part in parts:
            match part:
                case ast.Call():
                    self._forget_by_call(part)
                case ast.Subscript(value=owner, ctx=ast.Store() | ast.Del()):
                    self._change(owner)
                case ast.Attribute(attr=name) if is_lazy and name in _MUTATORS:
                    self.run_unknown_code()

    def _forget_by_call(self, node: ast.Call) -> None:
        """Forget the lists and dictionaries that a call can change."""
        if isinstance(self.look_up(_root(node.func)), PorticoPath):
            return
        name, is_pure = "", False
        match node.func:
            case ast.Name(id=name):
                is_pure = self._is_builtin(name)
            case ast.Attribute(value=owner, attr=name):
                is_pure = name in _PURE_METHODS or name in _MUTATORS
                if name in _MUTATORS:
                    self._change(owner)
        is_called_back = name not in {"dict", "format"} and any(
            not isinstance(keyword.value, ast.Constant | ast.Lambda)
            and not self._is_builtin(_root(keyword.value))
            for keyword in node.keywords
        )
        if is_called_back or not is_pure:
            self.run_unknown_code()

    def _change(self, owner: ast.expr) -> None:
        """Forget the list or dictionary that an expression names."""
        box = self.look_up(owner.id) if isinstance(owner, ast.Name) else UNKNOWN
        if isinstance(box, Box):
            box.content = None
        else:
            self._forget_boxes()

    def _forget_boxes(self) -> None:
        while self._boxes:
            self._boxes.pop().content = None

    def run_unknown_code(self) -> None:
        """Note that code runs that the reader does not follow. It can change each list, and can leave an iterator or a
        function that changes further lists later. Raise `StopReading` if it can raise an error of the program.
        """
        if self._can_raise:
            raise StopReading
        self._is_code_hidden = True
        self._forget_boxes()

    def _is_builtin(self, name: str) -> bool:
        return name in _BUILTINS and name not in self.frames[-1] and name not in self.frames[0]

    def look_up(self, name: str) -> Any:
        """Return the value of a variable."""
        return self.frames[-1].get(name, self.frames[0].get(name, UNKNOWN))

    def bind(self, target: ast.expr, assigned_value: Any) -> None:
        """Assign a value to a variable, to several, or to an element."""
        match target:
            case ast.Name(id=name):
                self.frames[-1][name] = assigned_value
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                elements = self.elements(assigned_value)
                if elements is None or any(isinstance(part, ast.Starred) for part in parts):
                    self.fail()
                    elements = [UNKNOWN] * len(parts)
                for part, element in zip(parts, elements, strict=True):
                    self.bind(part, element)
            case _:
                self.forget([target])

    def _box(self, content: list[Any] | dict[Any, Any] | None) -> Any:
        """Return a box with known content; otherwise, `UNKNOWN`."""
        if content is None or self._is_code_hidden:
            return UNKNOWN
        self.charge(1 + len(content) // 10)
        box = Box(content)
        self._boxes.append(box)
        return box

    def boxed(self, document: Any) -> Any:
        """Return a JSON value as a value of the program."""
        self.charge(1)
        if isinstance(document, dict):
            return self._box({key: self.boxed(member) for key, member in document.items()})
        return self._box(list(map(self.boxed, document))) if isinstance(document, list) else document

    def plain(self, argument: Any) -> Any:
        """Return a value as JSON. Raise `TypeError` if a part of it is unknown."""
        self.charge(1 + len(argument) // 50 if isinstance(argument, str) else 1)
        match argument.content if isinstance(argument, Box) else argument:
            case list() | tuple() as members:
                return list(map(self.plain, members))
            case dict() as members:
                return {key: self.plain(member) for key, member in members.items()}
            case scalar if is_scalar(argument):
                return scalar
        raise TypeError("The argument is not certain.")

    def elements(self, iterable: Any) -> list[Any] | None:
        """Return the elements over which a loop goes, or ``None``."""
        members = iterable.content if isinstance(iterable, Box) else iterable
        if not isinstance(members, str | list | tuple | dict):
            return None
        self.charge(1 + len(members) // 50)
        return list(members)

    def truth(self, node: ast.expr) -> bool | None:
        """Return whether an expression is true, or ``None``."""
        return _truth(self.evaluate(node))

    def fail(self) -> Any:
        """Note an operation that data can make fail. Return `UNKNOWN`."""
        self.is_doubtful = self.is_doubtful or self.tries > 0
        return UNKNOWN

    def _charge_text(self, length: int) -> None:
        self.charge(length // 50 if length <= MAX_TEXT_CHARS else MAX_STEPS)

    def charge(self, steps: int) -> None:
        """Count work. Raise `StopReading` beyond `MAX_STEPS`."""
        self._steps -= steps
        if self._steps < 0:
            raise StopReading


def is_scalar(operand: Any) -> bool:
    """Return whether a value is certain and has no parts."""
    return operand is None or isinstance(operand, str | int | float)


def _truth(operand: Any) -> bool | None:
    content = operand.content if isinstance(operand, Box) else operand
    is_certain = content is not None or operand is None
    return (
        bool(content)
        if is_certain and (is_scalar(content) or isinstance(content, list | tuple | dict))
        else None
    )


def _root(node: ast.expr) -> str:
    """Return the name with which a chain of attributes begins; empty for other expressions."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _is_bound(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
