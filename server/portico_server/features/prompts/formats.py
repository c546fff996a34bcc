"""Writes prompts in the formats of other tools; `import_formats` reads these formats.

``prompty``: Prompty, Markdown with front matter, roles as ``system:`` and Jinja's ``{{name}}``. ``dotprompt``:
Dotprompt, with Handlebars' ``{{role "system"}}`` and ``{{name}}``. ``langchain``: the JSON of a ChatPromptTemplate; a
PromptTemplate can be read too. ``markdown`` and ``yaml`` are Portico's own formats and lossless; the other formats
cannot contain cases.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, Final

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.prompts.spec import PromptSpec
from portico_server.core.template import Piece
from portico_server.features.prompts.import_formats import escape_braces


def write_prompt(spec: PromptSpec, format: str) -> tuple[str, str]:
    """Return the file name and the text of a prompt in a given format. Raises `InvalidRequest`."""
    if format not in _WRITERS:
        raise InvalidRequest(
            f"'{format[:40]}' is not a prompt format. Formats: "
            f"{', '.join(_WRITERS)}.{nearest(format, _WRITERS)}",
            param="format",
        )
    suffix, write = _WRITERS[format]
    return f"{spec.name.replace('/', '-')}{suffix}", write(spec)


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=110)
    return text


def _to_own_json(spec: PromptSpec) -> dict[str, Any]:
    """Return a prompt as Portico's JSON, without empty fields."""
    document = {key: value for key, value in spec.to_json().items() if value}
    if "arguments" in document:
        document["arguments"] = [
            {key: value for key, value in item.items() if value not in ("", None, False, [])}
            for item in document["arguments"]
        ]
    return document


def _markdown(spec: PromptSpec) -> str:
    front = _to_own_json(spec)
    front.pop("messages")
    body = "\n\n".join(f"# {turn.role}\n{turn.text}" for turn in spec.messages)
    return f"---\n{_yaml(front)}---\n{body}\n"


def _turns(spec: PromptSpec) -> list[tuple[str, tuple[Piece, ...]]]:
    """Return the messages in the order in which they are sent, including the examples."""
    leading = [(turn.role, turn.template) for turn in spec.messages if turn.role == "system"]
    turns = [(turn.role, turn.template) for turn in spec.messages if turn.role != "system"]
    shots: list[tuple[str, tuple[Piece, ...]]] = []
    for question, answer in spec.examples:
        shots += [("user", ((question, False),)), ("assistant", ((answer, False),))]
    return [*((str(role), cut) for role, cut in leading), *shots, *((str(role), cut) for role, cut in turns)]


def _double(template: tuple[Piece, ...], escape: Callable[[str], str]) -> str:
    """Return a template as text with arguments as ``{{name}}``. ``escape`` converts the text between two arguments."""
    parts: list[str] = []
    for is_name, pieces in groupby(template, key=lambda piece: piece[1]):
        texts = [text for text, _is_name in pieces]
        parts += [f"{{{{{text}}}}}" for text in texts] if is_name else [escape("".join(texts))]
    return "".join(parts)


def _jinja(text: str) -> str:
    text = re.sub(r"\{\{|\}\}|\{%|%\}|\{#|#\}", lambda brace_match: f"{{{{ '{brace_match[0]}' }}}}", text)
    # A single brace directly before an argument would become part of the argument's braces.
    return f"{text[:-1]}{{{{ '{{' }}}}" if text.endswith("{") else text


def _handlebars(text: str) -> str:
    if text.endswith("{"):
        raise InvalidRequest(
            "Dotprompt cannot represent a brace directly before an argument. Put a space between them, or "
            "export to another format.",
            code="unsupported_template",
            param="format",
        )
    return text.replace("{{", "\\{{")


def _prompty(spec: PromptSpec) -> str:
    inputs = {
        item.name: {
            "type": item.type,
            **({"description": item.description} if item.description else {}),
            **({"default": item.default} if item.default is not None else {}),
            **({"required": False} if not item.required and item.default is None else {}),
        }
        for item in spec.arguments
    }
    front = {"name": spec.name, "description": spec.description, "inputs": inputs}
    body = "\n\n".join(f"{role}:\n{_double(cut, _jinja)}" for role, cut in _turns(spec))
    return f"---\n{_yaml(front)}---\n{body}\n"


def _dotprompt(spec: PromptSpec) -> str:
    schema = {
        f"{item.name}{'' if item.required else '?'}": f"{item.type}, {item.description}".rstrip(", ")
        for item in spec.arguments
    }
    defaults = {item.name: item.default for item in spec.arguments if item.default is not None}
    front = {
        "name": spec.name,
        "description": spec.description,
        "input": {"schema": schema, **({"default": defaults} if defaults else {})},
    }
    roles = {"assistant": "model"}
    body = "\n".join(
        f'{{{{role "{roles.get(role, role)}"}}}}\n{_double(cut, _handlebars)}' for role, cut in _turns(spec)
    )
    return f"---\n{_yaml(front)}---\n{body}\n"


def _langchain(spec: PromptSpec) -> str:
    kinds = {"system": "System", "user": "Human", "assistant": "AI"}
    messages = []
    for role, cut in _turns(spec):
        names = sorted({text for text, is_name in cut if is_name})
        template = "".join(f"{{{text}}}" if is_name else escape_braces(text) for text, is_name in cut)
        inner = {"input_variables": names, "template": template, "template_format": "f-string"}
        prompt = {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "prompt", "PromptTemplate"]}
        kind = f"{kinds[role]}MessagePromptTemplate"
        messages.append(
            {
                "lc": 1,
                "type": "constructor",
                "id": ["langchain", "prompts", "chat", kind],
                "kwargs": {"prompt": {**prompt, "kwargs": inner}},
            }
        )
    document = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "prompts", "chat", "ChatPromptTemplate"],
        "name": spec.name,
        "kwargs": {
            "input_variables": sorted(item.name for item in spec.arguments if item.required),
            "partial_variables": {
                item.name: "" if item.default is None else item.default
                for item in spec.arguments
                if not item.required
            },
            "messages": messages,
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


_WRITERS: Final[Mapping[str, tuple[str, Callable[[PromptSpec], str]]]] = {
    "markdown": (".md", _markdown),
    "yaml": (".yaml", lambda spec: _yaml(_to_own_json(spec))),
    "prompty": (".prompty", _prompty),
    "dotprompt": (".prompt", _dotprompt),
    "langchain": (".json", _langchain),
}
