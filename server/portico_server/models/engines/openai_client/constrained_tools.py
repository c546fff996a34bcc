"""Tools for models whose template does not support tools, and enforcement of tool choices, by constrained decoding.

A system message describes the functions. The model can write only JSON that fits a schema: a call ``{"name": …,
"arguments": {…}}`` of a function or, if it may also answer directly, ``{"reply": "…"}``. `ToolReader` converts this
JSON to OpenAI's deltas while the model writes it. If the template supports tools and the model may choose, the
template is used instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.resolved_schema import SchemaResolver
from portico_server.models.openai_wire import arguments_schema

REPLY_FIELD = "reply"


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """The ``functions`` that the model can call.

    ``free`` means that the model may also answer directly. If ``answer`` is a schema, the answer must fit it.
    """

    functions: tuple[Mapping[str, Any], ...]
    free: bool
    answer: Mapping[str, Any] | None = None

    def schema(self, resolver: SchemaResolver) -> dict[str, Any]:
        """Return the schema that the model's output must fit. Raise `InvalidRequest` for a reference that leads
        nowhere.
        """
        forms = [
            _object(
                name={"const": function["name"]},
                arguments=resolver.resolve(
                    arguments_schema(function), f"the function '{function['name']}'", "tools"
                ),
            )
            for function in self.functions
        ]
        if self.free:
            answer = (
                resolver.resolve(self.answer, "'response_format'", "response_format")
                if self.answer
                else {"type": "string"}
            )
            forms.append(_object(**{REPLY_FIELD: answer}))
        return resolver.complete(forms[0] if len(forms) == 1 else {"anyOf": forms})

    def instruct(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the messages with a description of the functions added to the system message."""
        lines = ["Functions:"]
        for function in self.functions:
            description = f": {function['description']}" if function.get("description") else ""
            lines.append(
                f"- {function['name']}{description}. Parameters: {json.dumps(function.get('parameters') or {})}"
            )
        lines.append('Call the right function with JSON: {"name": …, "arguments": {…}}.')
        if self.free:
            lines.append(f'If none of them helps, answer with JSON: {{"{REPLY_FIELD}": …}}.')
        text = "\n".join(lines)
        if messages and messages[0].get("role") == "system":
            first = messages[0]
            return [{**first, "content": f"{first['content']}\n\n{text}".strip()}, *messages[1:]]
        return [{"role": "system", "content": text}, *messages]


def plan_tools(
    body: Mapping[str, Any], answer: Mapping[str, Any] | None, *, template_has_tools: bool
) -> ToolPlan | None:
    """Return how the tools of a request are enforced. Return ``None`` if the request has no tools, or the template
    handles them.
    """
    choice = body.get("tool_choice") or "auto"
    functions = tuple(
        tool["function"] for tool in body.get("tools") or () if isinstance(tool.get("function"), Mapping)
    )
    if isinstance(choice, Mapping):
        name = (choice.get("function") or {}).get("name")
        functions = tuple(function for function in functions if function["name"] == name)
        if not functions:
            raise InvalidRequest(
                f"'tool_choice' names the function '{name}', which is not in 'tools'.", param="tool_choice"
            )
        return ToolPlan(functions, free=False)
    if choice == "required":
        if not functions:
            raise InvalidRequest(
                "'tool_choice' is 'required', but 'tools' contains no function.", param="tool_choice"
            )
        return ToolPlan(functions, free=False)
    if choice == "none" or not functions or (template_has_tools and answer is None):
        return None
    return ToolPlan(functions, free=True, answer=answer)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_CALL = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_REPLY = re.compile(r'\s*\{\s*"' + REPLY_FIELD + r'"\s*:\s*')


class ToolReader:
    """A reader that converts the JSON of one choice to the ``delta`` objects of a chat stream while the model
    writes it.
    """

    def __init__(self, plan: ToolPlan) -> None:
        self._plan = plan
        self._head = ""
        self._value: _Raw | _Text | None = None
        self.called = False
        """True once a call has begun."""

    def feed(self, text: str) -> list[dict[str, Any]]:
        """Add ``text``, and return the deltas that it completes."""
        if self._value is not None:
            return self._deltas(self._value.feed(text))
        self._head += text
        if match := _CALL.match(self._head):
            self.called, self._value = True, _Raw()
            function = {"name": json.loads(match.group(1)), "arguments": ""}
            call_start = {"index": 0, "id": new_id("call_"), "type": "function", "function": function}
            return [{"tool_calls": [call_start]}, *self._deltas(self._value.feed(self._head[match.end() :]))]
        if self._plan.free and (match := _REPLY.match(self._head)):
            self._value = _Raw() if self._plan.answer else _Text()
            return self._deltas(self._value.feed(self._head[match.end() :]))
        return []

    def _deltas(self, text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        if self.called:
            return [{"tool_calls": [{"index": 0, "function": {"arguments": text}}]}]
        return [{"content": text}]


class _Raw:
    """Reads the text of one JSON value up to its end."""

    def __init__(self) -> None:
        self._depth = 0
        self._has_started = self._is_quoted = self._escaped = self._is_done = False

    def feed(self, text: str) -> str:
        if self._is_done:
            return ""
        if not self._has_started:
            text = text.lstrip()
            self._has_started = bool(text)
        for index, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif character == "\\" and self._is_quoted:
                self._escaped = True
            elif character == '"':
                self._is_quoted = not self._is_quoted
            elif not self._is_quoted and character in "{[":
                self._depth += 1
            elif not self._is_quoted and character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self._is_done = True
                    return text[: index + (self._depth == 0)]
        return text


class _Text:
    """Reads the characters of one JSON string, decoded."""

    def __init__(self) -> None:
        self._has_started = self._is_done = False
        self._escape = ""

    def feed(self, text: str) -> str:
        return "".join(self._character(character) for character in text)

    def _character(self, character: str) -> str:
        if self._is_done:
            return ""
        if self._escape:
            self._escape += character
            return self._decode()
        if character == "\\":
            self._escape = character
            return ""
        if character == '"':
            self._has_started, self._is_done = True, self._has_started
            return ""
        return character if self._has_started else ""

    def _decode(self) -> str:
        """Return the decoded character once its escape is complete. Two escapes form one character above U+FFFF."""
        escape = self._escape
        if (
            len(escape) == 7 and escape[6] != "\\"
        ):  # half of a character that is not followed by the other half
            self._escape = ""
            return "\ufffd" + self._character(escape[6])
        if len(escape) == 1 or (escape[1] == "u" and len(escape) % 6):
            return ""
        if len(escape) == 6 and 0xD800 <= int(escape[2:], 16) < 0xDC00:
            return ""
        self._escape = ""
        char: str = json.loads(f'"{escape}"')
        return char
