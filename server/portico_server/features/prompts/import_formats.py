"""Converts prompts in the formats of other tools to Portico's format: see `formats`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

_TOKEN: Final = re.compile(r"""\\\{\{|\{\{(?P<inner>\s*(?:'[^']*'|"[^"]*")\s*|[^{}]*)\}\}""")
_QUOTED: Final = re.compile(r"""\s*(['"])(?P<text>[{}%#]+)\1\s*""")
_WORD: Final = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*")
_ROLE_LINE: Final = re.compile(r"^(system|user|assistant):[ \t]*$", re.IGNORECASE | re.MULTILINE)
_ROLE_CALL: Final = re.compile(r"""\{\{\s*role\s+["'](\w+)["']\s*\}\}""")
_TYPES: Final[Mapping[str, str]] = {
    "string": "string",
    "number": "number",
    "integer": "integer",
    "boolean": "boolean",
}
_ROLES: Final[Mapping[str, str]] = {
    **{role: role for role in ("system", "user", "assistant")},
    "model": "assistant",
    "human": "user",
    "ai": "assistant",
    "developer": "system",
}


def _convert_text(text: str, at: str) -> tuple[str, list[str]]:
    """Convert a text with ``{{name}}`` to a Portico template. Return the template and the names. Raise
    `InvalidRequest` if the text contains executable parts.
    """
    out: list[str] = []
    names: list[str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        out.append(escape_braces(text[end : match.start()]))
        end = match.end()
        inner = match["inner"]
        if inner is None:
            out.append("{{{{")  # an escaped pair of braces
        elif quoted_match := _QUOTED.fullmatch(inner):
            out.append(escape_braces(quoted_match["text"]))
        elif word := _WORD.fullmatch(inner):
            names.append(word[1])
            out.append(f"{{{word[1]}}}")
        else:
            raise InvalidRequest(
                f"{at} has {{{{{inner[:60]}}}}}. Only names are allowed between braces: no loops, filters or "
                "partials.",
                code="unsupported_template",
                param=at,
            )
    out.append(escape_braces(text[end:]))
    return "".join(out), list(dict.fromkeys(names))


def escape_braces(text: str) -> str:
    """Return a template that renders the braces of ``text`` literally."""
    return text.replace("{", "{{").replace("}", "}}")


def prompty(front: Mapping[str, Any], body: str, at: str) -> dict[str, Any]:
    """Return a Prompty file as Portico's JSON."""
    parts = _ROLE_LINE.split(body)
    turns = [("user", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    declared_inputs = front.get("inputs")
    sample = front.get("sample")
    inputs = declared_inputs if isinstance(declared_inputs, Mapping) else {}
    samples = sample if isinstance(sample, Mapping) else {}
    return _build(front, turns, at, {**{name: {} for name in samples}, **inputs})


def dotprompt(front: Mapping[str, Any], body: str, at: str) -> dict[str, Any]:
    """Return a Dotprompt file as Portico's JSON."""
    parts = _ROLE_CALL.split(body)
    turns = [("user", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    declared_input = front.get("input")
    input_fields = declared_input if isinstance(declared_input, Mapping) else {}
    schema, defaults = input_fields.get("schema") or {}, input_fields.get("default") or {}
    declared_arguments: dict[str, Any] = {}
    for key, description in schema.items() if isinstance(schema, Mapping) else ():
        kind, _, about = str(description).partition(",")
        name = str(key).rstrip("?")
        declared_arguments[name] = {
            "type": kind.strip(),
            "description": about.strip(),
            "optional": str(key).endswith("?"),
        }
    for name, value in defaults.items() if isinstance(defaults, Mapping) else ():
        declared_arguments.setdefault(name, {})["default"] = value
    return _build(front, turns, at, declared_arguments)


def _build(
    front: Mapping[str, Any], turns: Sequence[tuple[str, str]], at: str, declared_arguments: Mapping[str, Any]
) -> dict[str, Any]:
    messages: list[dict[str, str]] = []
    used_names: list[str] = []
    for role, text in turns:
        if not text.strip():
            continue
        if role.lower() not in _ROLES:
            raise InvalidRequest(f"{at} has the role '{role}', which is not supported.", param=at)
        content, names = _convert_text(text.strip(), at)
        used_names += names
        messages.append({"role": _ROLES[role.lower()], "content": content})
    return {
        **({"name": front["name"]} if front.get("name") else {}),
        "description": str(front.get("description") or ""),
        "arguments": [_argument(name, declared_arguments.get(name)) for name in dict.fromkeys(used_names)],
        "messages": messages,
    }


def _argument(name: str, about: Any) -> dict[str, Any]:
    fields = about if isinstance(about, Mapping) else {}
    default = fields.get("default")
    return {
        "name": name,
        "type": _TYPES.get(str(fields.get("type")), "string"),
        "description": str(fields.get("description") or ""),
        **(
            {"default": default}
            if default is not None
            else {"required": not fields.get("optional") and fields.get("required") is not False}
        ),
    }


def langchain(document: Any, at: str) -> dict[str, Any] | None:
    """Return LangChain's PromptTemplate or ChatPromptTemplate as Portico's JSON; ``None`` if the document is
    neither.
    """
    if not isinstance(document, Mapping):
        return None
    if document.get("_type") in ("prompt", "chat") or document.get("lc"):
        kwargs = document.get("kwargs") if document.get("lc") else document
        if not isinstance(kwargs, Mapping):
            return None
        items = kwargs.get("messages")
        turns = (
            [_turn(item, at) for item in items]
            if isinstance(items, list)
            else [("user", _template(kwargs, at))]
        )
        names = list(dict.fromkeys(name for _role, (_text, names_of_turn) in turns for name in names_of_turn))
        partial = kwargs.get("partial_variables")
        defaults = partial if isinstance(partial, Mapping) else {}
        return {
            **({"name": document["name"]} if isinstance(document.get("name"), str) else {}),
            "arguments": [_argument(name, _typed_argument(defaults.get(name))) for name in names],
            "messages": [{"role": role, "content": text} for role, (text, _names) in turns],
        }
    return None


def _typed_argument(default: Any) -> dict[str, Any]:
    """Return an argument with its default value. If the default is empty, the argument is optional."""
    kinds = {bool: "boolean", int: "integer", float: "number"}
    return {} if default is None else {"type": kinds.get(type(default), "string"), "default": default}


def _turn(item: Any, at: str) -> tuple[str, tuple[str, list[str]]]:
    kind = str((item.get("id") or [""])[-1]) if isinstance(item, Mapping) else ""
    role = {
        "SystemMessagePromptTemplate": "system",
        "HumanMessagePromptTemplate": "user",
        "AIMessagePromptTemplate": "assistant",
        "SystemMessage": "system",
        "HumanMessage": "user",
        "AIMessage": "assistant",
    }.get(kind)
    kwargs = item.get("kwargs") if isinstance(item, Mapping) else None
    if role is None or not isinstance(kwargs, Mapping):
        raise InvalidRequest(
            f"{at} has a message '{kind or str(item)[:60]}', which is neither a template nor a message with "
            "text.",
            code="unsupported_template",
            param=at,
        )
    if "content" in kwargs:
        return role, (escape_braces(str(kwargs["content"])), [])
    prompt = kwargs.get("prompt")
    inner = prompt.get("kwargs", prompt) if isinstance(prompt, Mapping) else {}
    return role, _template(inner, at)


def _template(kwargs: Mapping[str, Any], at: str) -> tuple[str, list[str]]:
    text = kwargs.get("template")
    if not isinstance(text, str):
        raise InvalidRequest(f"{at} has no 'template'.", code="unsupported_template", param=at)
    form = kwargs.get("template_format") or "f-string"
    if form == "mustache" or form == "jinja2":
        return _convert_text(text, at)
    if form != "f-string":
        raise InvalidRequest(
            f"{at} has templates in the format '{form}', which is not supported.",
            code="unsupported_template",
            param=at,
        )
    matches = re.findall(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}", text)
    return text, list(dict.fromkeys(name for name in matches if name))
