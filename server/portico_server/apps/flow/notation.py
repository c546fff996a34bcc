"""How expressions are written: literals, references, templates, comparisons, calls of a function.

Any JSON value stands for itself, save an object with one of these keys:

======================  ================================================================================
``{"$ref": R}``         a reference: ``input``, ``value``, ``history``, ``item``, ``index``, ``state`` or
                        ``steps.NAME``, then ``.key``, ``["any key"]`` or ``[0]`` (negative: from the end).
                        With ``"$default": X`` a missing key or a skipped step is ``X``.
``{"$template": T,``    text with ``{name}`` for each variable of ``$with``; braces are doubled to stand for
``"$with": {...}}``     themselves. Without ``$with`` the names are keys of the value that flows in.
``{"$eq": [a, b]}``     and ``$ne $lt $lte $gt $gte $in``: comparisons.
``{"$and": [...]}``     and ``$or``, ``{"$not": x}``.
``{"$code": SOURCE,``   a function in the light sandbox: ``$args`` and ``$kwargs`` are expressions; by default it
``"$args": [...]}``     gets the value that flows in.
``{"$literal": X}``     ``X`` itself, whatever it looks like.
``{"$spread": E}``      within a list of arguments: the items of ``E``, each an argument of its own.
======================  ================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from portico_server.apps.flow.expression import (
    MISSING,
    OPERATORS,
    ROOTS,
    VALUE,
    CodeExpression,
    ComparisonExpression,
    Expression,
    Key,
    ListExpression,
    LiteralExpression,
    ObjectExpression,
    ReferenceExpression,
    SpreadExpression,
    TemplateExpression,
    short,
)
from portico_server.core.errors import InvalidRequest

MAX_BRACES: Final = 50_000
"""Opening braces in a template, doubled ones too: each is a piece of its own."""

_REF = re.compile(r"[A-Za-z_]\w*|\.[\w-]+|\[-?\d+\]|\[\"(?:[^\"\\]|\\.)*\"\]")
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}|[{}]")


def parse(value: Any, at: str) -> Expression:
    """The expression that a JSON value stands for. ``at`` is where it stands, for messages."""
    if isinstance(value, list):
        items = tuple(parse(item, f"{at}[{number}]") for number, item in enumerate(value))
        if all(isinstance(item, LiteralExpression) for item in items):
            return LiteralExpression(value)
        return ListExpression(items)
    if not isinstance(value, dict):
        return LiteralExpression(value)
    marks = [key for key in value if key.startswith("$")]
    if not marks:
        fields = {name: parse(item, f"{at}.{name}") for name, item in value.items()}
        if all(isinstance(field, LiteralExpression) for field in fields.values()):
            return LiteralExpression(value)
        return ObjectExpression(fields)
    return _marked(value, at)


def _marked(value: Mapping[str, Any], at: str) -> Expression:
    keys = frozenset(value)
    match next(iter(value)):
        case "$literal" if keys == {"$literal"}:
            return LiteralExpression(value["$literal"])
        case _ if "$ref" in keys and keys <= {"$ref", "$default"}:
            return reference(value["$ref"], at, value.get("$default", MISSING))
        case _ if "$template" in keys and keys <= {"$template", "$with"}:
            return template(value["$template"], value.get("$with"), at)
        case _ if "$code" in keys and keys <= {"$code", "$args", "$kwargs"}:
            return code(value["$code"], value.get("$args"), value.get("$kwargs"), at)
        case "$spread" if len(keys) == 1:
            return SpreadExpression(parse(value["$spread"], at), at)
        case operator if len(keys) == 1 and operator in (*OPERATORS, "$and", "$or", "$not"):
            return _comparison(operator, value[operator], at)
    raise InvalidRequest(
        f"{at} has the keys {', '.join(sorted(keys))}, which is not an expression. Expressions are $ref, $template, "
        f"$code, "
        "$literal, $spread and the comparisons; to pass such an object as it is, put it under '$literal'.",
        code="invalid_expression",
        param=at,
    )


def _comparison(operator: str, given: Any, at: str) -> ComparisonExpression:
    sides = [given] if operator == "$not" else given
    wanted = {"$not": 1, "$and": None, "$or": None}.get(operator, 2)
    if not isinstance(sides, list) or (wanted is not None and len(sides) != wanted):
        raise InvalidRequest(f"{at}: {operator} takes a list of {wanted or 'conditions'}.", param=at)
    return ComparisonExpression(operator, tuple(parse(side, f"{at}.{operator}") for side in sides), at)


def reference(text: Any, at: str, default: Any = MISSING) -> ReferenceExpression:
    """Read ``steps.outline[0].title`` and its like."""
    tokens = _REF.findall(text) if isinstance(text, str) else []
    if not tokens or "".join(tokens) != text or tokens[0] not in ROOTS:
        raise InvalidRequest(
            f"{at}: {text!r} is not a reference. References begin with {', '.join(ROOTS)} and continue with .key or "
            "[0], such as steps.outline[0].title.",
            code="invalid_reference",
            param=at,
        )
    root, rest = tokens[0], tokens[1:]
    step = ""
    if root == "steps":
        if not rest or not rest[0].startswith("."):
            raise InvalidRequest(
                f"{at}: 'steps' needs the name of a step, such as steps.outline.",
                code="invalid_reference",
                param=at,
            )
        step, rest = rest[0][1:], rest[1:]
    return ReferenceExpression(root, step, tuple(_key(token) for token in rest), at, default)


def _key(token: str) -> Key:
    if token.startswith("."):
        return token[1:]
    if token.startswith('["'):
        return str(orjson.loads(token[1:-1]))
    return int(token[1:-1])


def is_template(text: str) -> bool:
    """Whether braces in a text are meant as those of a template: not if they close and hold no name, as JSON does."""
    if text.count("{") > MAX_BRACES:
        return True  # which is refused, rather than looked through
    found = list(_FIELD.finditer(text))
    if any(match.group(1) for match in found) or all(len(match.group()) == 2 for match in found):
        return bool(found)
    return text.count("{") != text.count("}")


def template(text: Any, given: Any, at: str) -> TemplateExpression:
    """Read text with ``{name}`` in it. Every name must be declared in ``given``, if there is one."""
    if not isinstance(text, str):
        raise InvalidRequest(f"{at}: a template is text, not {short(text)}.", param=at)
    if text.count("{") > MAX_BRACES:
        raise InvalidRequest(
            f"{at}: the template has more than {MAX_BRACES:,} opening braces. Give a text that is not a template as a "
            "variable, or under '$literal'.",
            code="invalid_template",
            param=at,
        )
    if given is not None and not isinstance(given, dict):
        raise InvalidRequest(f"{at}: '$with' names the variables of the template, as an object.", param=at)
    variables = None if given is None else {name: parse(item, f"{at}.{name}") for name, item in given.items()}
    pieces: list[str] = []
    bare: list[str] = []  # of the text between two variables: joined at the end, as braces may be many
    end = 0
    for match in _FIELD.finditer(text):
        bare.append(text[end : match.start()])
        end = match.end()
        name = match.group(1)
        if name is None:
            if len(match.group()) == 1:
                raise InvalidRequest(
                    f"{at}: there is a single '{match.group()}' at character {match.start()}. Variables are written "
                    "{name}; double the braces to have them in the text.",
                    code="invalid_template",
                    param=at,
                )
            bare.append(match.group()[0])
            continue
        if variables is not None and name not in variables:
            raise InvalidRequest(
                f"{at}: the variable '{{{name}}}' is not declared under '$with'. Double the braces to have them in "
                "the text.",
                code="missing_variable",
                param=at,
            )
        pieces += ["".join(bare), name]
        bare = []
    pieces.append("".join([*bare, text[end:]]))
    return TemplateExpression(tuple(pieces), variables, at)


def code(source: Any, args: Any, kwargs: Any, at: str) -> CodeExpression:
    """Read a function and its arguments."""
    if not isinstance(source, str) or not source.strip():
        raise InvalidRequest(f"{at}: code is the source of a Python function or lambda.", param=at)
    if args is not None and not isinstance(args, list):
        raise InvalidRequest(f"{at}: the arguments of a function are a list.", param=f"{at}.args")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise InvalidRequest(
            f"{at}: the keyword arguments of a function are an object.", param=f"{at}.kwargs"
        )
    if args is None and kwargs is None:
        return CodeExpression(source, (VALUE,), {}, at)
    return CodeExpression(
        source,
        tuple(parse(item, f"{at}.args[{number}]") for number, item in enumerate(args or ())),
        {name: parse(item, f"{at}.kwargs.{name}") for name, item in (kwargs or {}).items()},
        at,
    )
