"""The prompt that a model's spec puts at the beginning of every chat, on any engine. Pure.

It has a system message, examples, a template for the question, and arguments that are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.template import Piece, fill, pieces

PROMPT_FIELDS = ("system", "examples", "user", "arguments")

INPUT_ARGUMENT = "input"
"""The template argument for the caller's question."""

ARGUMENTS_FIELD = "prompt_arguments"
"""The request field with the prompt's arguments. It is not passed on to the engine."""


@dataclass(frozen=True, slots=True)
class ModelPrompt:
    """The prompt of a model.

    ``user`` is the template for the last question. ``arguments`` are default values, ``None`` for arguments that every
    call must set.
    """

    system: tuple[Piece, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    user: tuple[Piece, ...] = ()
    arguments: Mapping[str, str | None] = field(default_factory=dict)

    @classmethod
    def parse(cls, model: str, fields: Mapping[str, Any]) -> ModelPrompt | None:
        """Parse a spec's ``prompt``; return ``None`` if it is empty. Raise `InvalidRequest` that names the field."""
        if not fields:
            return None
        for name in fields:
            if name not in PROMPT_FIELDS:
                raise InvalidRequest(
                    f"The prompt of the model '{model}' has no field "
                    f"'{name}'.{nearest(str(name), PROMPT_FIELDS)} Valid fields: {', '.join(PROMPT_FIELDS)}.",
                    param=f"prompt.{name}",
                )
        model_prompt = cls(
            _template(model, fields, "system"),
            _examples(model, fields.get("examples") or ()),
            _template(model, fields, "user"),
            _arguments(model, fields.get("arguments") or {}),
        )
        model_prompt._check(model)
        return model_prompt

    def _check(self, model: str) -> None:
        known_names = {*self.arguments, INPUT_ARGUMENT}
        for role, template in (("system", self.system), ("user", self.user)):
            for text, is_name in template:
                if is_name and (text not in known_names or (role == "system" and text == INPUT_ARGUMENT)):
                    raise InvalidRequest(
                        f"'{role}' in the prompt of the model '{model}' uses {{{text}}}, which is missing in "
                        "its 'arguments'. Add the argument with a default, or with null if every call must "
                        "set it.",
                        param=f"prompt.{role}",
                    )
        if self.user and (INPUT_ARGUMENT, True) not in self.user:
            raise InvalidRequest(
                f"'user' in the prompt of the model '{model}' must contain {{input}} where the question goes.",
                param="prompt.user",
            )

    def render(self, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a chat's body with this prompt: one system message, the examples, and the caller's other messages.

        The system message contains the prompt's text, then the caller's system messages. The caller's last question is
        put into the template. Raise `InvalidRequest` for an invalid argument.
        """
        values = self._values(model, body.get(ARGUMENTS_FIELD) or {})
        messages = list(body.get("messages") or ())
        leading = 0
        while leading < len(messages) and messages[leading].get("role") in ("system", "developer"):
            leading += 1
        system_texts = [fill(self.system, values), *(_text(message) for message in messages[:leading])]
        system = "\n\n".join(text for text in system_texts if text)
        later_messages = messages[leading:]
        question_index = max(
            (i for i, message in enumerate(later_messages) if message.get("role") == "user"), default=None
        )
        if self.user and question_index is not None:
            later_messages[question_index] = {
                **later_messages[question_index],
                "content": self._put(later_messages[question_index].get("content"), values),
            }
        shots = [
            {"role": role, "content": text}
            for pair in self.examples
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        head = [{"role": "system", "content": system}] if system else []
        other_fields = {name: value for name, value in body.items() if name != ARGUMENTS_FIELD}
        return {**other_fields, "messages": [*head, *shots, *later_messages]}

    def _put(self, content: Any, values: Mapping[str, str]) -> Any:
        """Return the question inside its template. If the question has several parts, the template applies to the
        first text.
        """
        if isinstance(content, str):
            return fill(self.user, {**values, INPUT_ARGUMENT: content})
        parts = list(content or ())
        for index, part in enumerate(parts):
            if part.get("type") == "text":
                text = fill(self.user, {**values, INPUT_ARGUMENT: str(part.get("text", ""))})
                parts[index] = {**part, "text": text}
                break
        return parts

    def _values(self, model: str, given_values: Any) -> dict[str, str]:
        if not isinstance(given_values, Mapping):
            raise InvalidRequest(
                f"'{ARGUMENTS_FIELD}' must be an object with text values.", param=ARGUMENTS_FIELD
            )
        for name, value in given_values.items():
            if name not in self.arguments:
                raise InvalidRequest(
                    f"The prompt of the model '{model}' has no argument '{str(name)[:80]}'."
                    f"{nearest(str(name), self.arguments)}",
                    param=f"{ARGUMENTS_FIELD}.{name}",
                )
            if not isinstance(value, str | int | float):
                raise InvalidRequest(
                    f"The argument '{name}' must be a text or a number.", param=f"{ARGUMENTS_FIELD}.{name}"
                )
        values = {**self.arguments, **{name: str(value) for name, value in given_values.items()}}
        missing = next((name for name, value in values.items() if value is None), None)
        if missing is not None:
            raise InvalidRequest(
                f"The model '{model}' needs the argument '{missing}': send it in '{ARGUMENTS_FIELD}'.",
                code="missing_required_parameter",
                param=f"{ARGUMENTS_FIELD}.{missing}",
            )
        return {name: value for name, value in values.items() if value is not None}


def _template(model: str, fields: Mapping[str, Any], name: str) -> tuple[Piece, ...]:
    text = fields.get(name) or ""
    if not isinstance(text, str):
        raise InvalidRequest(
            f"'{name}' in the prompt of the model '{model}' must be a text.", param=f"prompt.{name}"
        )
    return pieces(text, f"prompt.{name}")


def _examples(model: str, examples: Any) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for pair in examples if isinstance(examples, list | tuple) else (None,):
        texts = [pair.get(role) for role in ("user", "assistant")] if isinstance(pair, Mapping) else [None]
        if len(pair or ()) != 2 or not all(isinstance(text, str) for text in texts):
            raise InvalidRequest(
                f"'examples' in the prompt of the model '{model}' must be a list of objects with 'user' and "
                "'assistant'.",
                param="prompt.examples",
            )
        pairs.append((str(texts[0]), str(texts[1])))
    return tuple(pairs)


def _arguments(model: str, arguments: Any) -> Mapping[str, str | None]:
    good = isinstance(arguments, Mapping) and all(
        isinstance(name, str)
        and name.isidentifier()
        and name != INPUT_ARGUMENT
        and isinstance(value, str | int | float | None)
        for name, value in arguments.items()
    )
    if not good:
        raise InvalidRequest(
            f"'arguments' in the prompt of the model '{model}' must be an object with a text, or null, for "
            "each name; the name 'input' is reserved.",
            param="prompt.arguments",
        )
    return {name: None if value is None else str(value) for name, value in arguments.items()}


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or () if isinstance(part, Mapping))
