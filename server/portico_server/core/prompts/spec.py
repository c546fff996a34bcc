"""The definition of a prompt: arguments, messages and examples, parsed once and rendered on demand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.json_size import require_filled
from portico_server.core.names import has_dots
from portico_server.core.prompts import argument as arguments_
from portico_server.core.prompts.argument import PromptArgument
from portico_server.core.request import Message
from portico_server.core.template import Piece, fill, pieces

Role: TypeAlias = Literal["system", "user", "assistant"]

MAX_PROMPT_CHARS: Final = 256 * 1024
"""Maximum total number of characters in the texts of a prompt."""

MAX_ITEMS: Final = 200
"""Maximum number of arguments, messages or examples of a prompt."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
_FIELDS: Final = frozenset({"name", "title", "description", "arguments", "messages", "examples", "cases"})


@dataclass(frozen=True, slots=True)
class PromptMessageSpec:
    """A message: its role, its text as written, and the text split at its placeholders."""

    role: Role
    text: str
    template: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class PromptTrial:
    """A test case for an evaluation of the prompt: ``arguments``, a correct ``answer``, and ``holds``, what every
    correct answer contains.
    """

    arguments: Mapping[str, Any]
    answer: str
    holds: str


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """A prompt. ``examples`` are pairs of a question and an answer, sent as written. ``cases`` are not sent; an
    evaluation of the prompt uses them.
    """

    name: str
    title: str = ""
    description: str = ""
    arguments: tuple[PromptArgument, ...] = ()
    messages: tuple[PromptMessageSpec, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    cases: tuple[PromptTrial, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the prompt in the JSON form that `parse` accepts."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "arguments": [item.to_json() for item in self.arguments],
            "messages": [{"role": turn.role, "content": turn.text} for turn in self.messages],
            "examples": [{"user": user, "assistant": answer} for user, answer in self.examples],
            # Leave the field out if it is empty, so that prompts stored before the field existed keep their
            # version.
            **(
                {
                    "cases": [
                        {"arguments": dict(case.arguments), "answer": case.answer, "holds": case.holds}
                        for case in self.cases
                    ]
                }
                if self.cases
                else {}
            ),
        }

    def render(self, arguments: Mapping[str, Any], *, as_text: bool = False) -> tuple[Message, ...]:
        """Return the messages with the arguments filled in: first the system messages, then the examples, then the
        others.

        With ``as_text``, every argument is a text, as MCP sends it, and is converted to its type. Raises
        `InvalidRequest` that names an argument that is unknown, missing or of the wrong type. An optional argument
        without a default is empty.
        """
        prompt_arguments = {item.name: item for item in self.arguments}
        for name in arguments:
            if name not in prompt_arguments:
                takes = (
                    f" It takes {', '.join(prompt_arguments)}."
                    if prompt_arguments
                    else " It has no arguments."
                )
                raise InvalidRequest(
                    f"The prompt '{self.name}' has no argument "
                    f"'{str(name)[:80]}'.{nearest(str(name), prompt_arguments) or takes}",
                    code="unknown_parameter",
                    param=f"arguments.{name}",
                )
        values = {
            name: _value(self.name, item, arguments, as_text=as_text)
            for name, item in prompt_arguments.items()
        }
        found_pieces = (piece for turn in self.messages for piece in turn.template)
        require_filled([values[text] if is_name else text for text, is_name in found_pieces])
        leading = [turn for turn in self.messages if turn.role == "system"]
        message_specs = [turn for turn in self.messages if turn.role != "system"]
        shots = [
            {"role": role, "content": text}
            for pair in self.examples
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        return (
            *({"role": turn.role, "content": fill(turn.template, values)} for turn in leading),
            *shots,
            *({"role": turn.role, "content": fill(turn.template, values)} for turn in message_specs),
        )


def parse(value: Any, at: str = "prompt") -> PromptSpec:
    """Parse a prompt from its JSON form. Raises `InvalidRequest` that names the path, such as
    ``prompts[2].messages[0]``.

    ``messages`` may be a single text, which becomes the user's message. Each placeholder must be a declared argument,
    and each argument must be used.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{at} must be a mapping with 'name' and 'messages'.", param=at)
    for key in value:
        if key not in _FIELDS:
            raise InvalidRequest(
                f"{at} has no field '{key}'.{nearest(str(key), _FIELDS)}", param=f"{at}.{key}"
            )
    name = value.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or has_dots(name):
        raise InvalidRequest(
            f"{at}.name must have at most 128 letters, digits and _ . / -, and no part of only dots, not "
            f"{str(name)[:80]!r}.",
            param=f"{at}.name",
        )
    messages = value.get("messages")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    spec = PromptSpec(
        name,
        _text(value, "title", at),
        _text(value, "description", at),
        tuple(
            arguments_.parse(item, f"{at}.arguments[{number}]")
            for number, item in enumerate(_items(value.get("arguments"), f"{at}.arguments"))
        ),
        tuple(
            _turn(item, f"{at}.messages[{number}]")
            for number, item in enumerate(_items(messages, f"{at}.messages"))
        ),
        tuple(
            _example(item, f"{at}.examples[{number}]")
            for number, item in enumerate(_items(value.get("examples"), f"{at}.examples"))
        ),
        tuple(
            _case(item, f"{at}.cases[{number}]")
            for number, item in enumerate(_items(value.get("cases"), f"{at}.cases"))
        ),
    )
    _check(spec, at)
    for number, case in enumerate(spec.cases):
        try:
            spec.render(case.arguments)
        except InvalidRequest as error:
            place = f"{at}.cases[{number}]"
            raise InvalidRequest(
                f"{place}: {error.message}", code=error.code, param=f"{place}.{error.param}"
            ) from error
    return spec


def _check(spec: PromptSpec, at: str) -> None:
    if not spec.messages:
        raise InvalidRequest(
            f"{at} needs 'messages'.", code="missing_required_parameter", param=f"{at}.messages"
        )
    size = sum(len(turn.text) for turn in spec.messages) + sum(len(a) + len(b) for a, b in spec.examples)
    size += sum(len(case.answer) + len(case.holds) for case in spec.cases)
    if size > MAX_PROMPT_CHARS:
        raise InvalidRequest(
            f"{at} has {size:,} characters of text; the maximum is {MAX_PROMPT_CHARS:,}.",
            code="too_large",
            param=at,
        )
    declared_names = [item.name for item in spec.arguments]
    for number, name in enumerate(declared_names):
        if name in declared_names[:number]:
            raise InvalidRequest(
                f"{at} declares the argument '{name}' twice.", param=f"{at}.arguments[{number}].name"
            )
    used_names = {
        text: number
        for number, turn in enumerate(spec.messages)
        for text, is_name in turn.template
        if is_name
    }
    for name, number in used_names.items():
        if name not in declared_names:
            raise InvalidRequest(
                f"{at}.messages[{number}] contains {{{name}}}, which is not among the prompt's arguments. "
                f"Declare it, or write {{{{{name}}}}} for the literal text.{nearest(name, declared_names)}",
                code="undeclared_argument",
                param=f"{at}.messages[{number}]",
            )
    for number, name in enumerate(declared_names):
        if name not in used_names:
            raise InvalidRequest(
                f"{at} declares the argument '{name}' but does not use {{{name}}} in its messages.",
                code="unused_argument",
                param=f"{at}.arguments[{number}]",
            )


def _value(prompt: str, argument: PromptArgument, arguments: Mapping[str, Any], *, as_text: bool) -> str:
    at = f"arguments.{argument.name}"
    if arguments.get(argument.name) is None:
        if argument.required:
            raise InvalidRequest(
                f"The prompt '{prompt}' needs the argument '{argument.name}'.",
                code="missing_required_parameter",
                param=at,
            )
        value = argument.default
    else:
        value = arguments[argument.name]
        value = argument.check(argument.read(value) if as_text and isinstance(value, str) else value, at)
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _turn(value: Any, at: str) -> PromptMessageSpec:
    if not isinstance(value, Mapping) or set(value) - {"role", "content"}:
        raise InvalidRequest(f"{at} must be a mapping with only 'role' and 'content'.", param=at)
    role: Any = value.get("role")
    text = value.get("content")
    if role not in get_args(Role):
        raise InvalidRequest(
            f"{at}.role must be one of {', '.join(get_args(Role))}, not {str(role)[:80]!r}.",
            param=f"{at}.role",
        )
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{at}.content must be a non-empty string.", param=f"{at}.content")
    if (
        len(text) > MAX_PROMPT_CHARS
    ):  # checked before the text is split, because it may have as many pieces as characters
        raise InvalidRequest(
            f"{at}.content has {len(text):,} characters of text; the maximum is {MAX_PROMPT_CHARS:,}.",
            code="too_large",
            param=at,
        )
    return PromptMessageSpec(role, text, pieces(text, f"{at}.content"))


def _example(value: Any, at: str) -> tuple[str, str]:
    if isinstance(value, Mapping) and set(value) == {"user", "assistant"}:
        user, answer = value["user"], value["assistant"]
        if isinstance(user, str) and isinstance(answer, str):
            return user, answer
    raise InvalidRequest(f"{at} must be a mapping of two strings, 'user' and 'assistant'.", param=at)


def _case(value: Any, at: str) -> PromptTrial:
    if isinstance(value, Mapping) and set(value) <= {"arguments", "answer", "holds"}:
        arguments, answer = value.get("arguments") or {}, value.get("answer")
        holds = value.get("holds", answer)
        if isinstance(arguments, Mapping) and isinstance(answer, str) and isinstance(holds, str) and holds:
            return PromptTrial(dict(arguments), answer, holds)
    raise InvalidRequest(
        f"{at} must be a mapping with 'arguments', 'answer' (a correct answer) and 'holds' (what a correct "
        "answer contains).",
        param=at,
    )


def _items(value: Any, at: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InvalidRequest(f"{at} must be a list.", param=at)
    if len(value) > MAX_ITEMS:
        raise InvalidRequest(f"{at} has {len(value)} items; the maximum is {MAX_ITEMS}.", param=at)
    return value


def _text(fields: Mapping[str, Any], key: str, at: str) -> str:
    value = fields.get(key) or ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{at}.{key} must be a string.", param=f"{at}.{key}")
    return value.strip()
