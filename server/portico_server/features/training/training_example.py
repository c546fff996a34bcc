"""A line of a training file: what each method requires of it, and its form for training. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.features.grading.template import fields
from portico_server.features.training.spec import Method

Message: TypeAlias = Mapping[str, Any]

ROLES: Final = ("system", "developer", "user", "assistant", "tool")

CONTROL_TOKENS: Final = re.compile(
    r"<\|[^|<>\s]{1,60}\|>|<｜[^｜<>]{1,60}｜>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:bos|eos|pad)>"
    r"|\[(?:gMASK|SYSTEM_PROMPT|/SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS)\]"
)
"""Control tokens that chat templates write between messages. Inside a message, such a token would end the message
early.
"""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class WrongLineError(Exception):
    """A line cannot be used for training; the message is the reason, without the line number."""


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A line that can be used for training.

    Training reads ``document``. ``conversations`` are the complete conversations whose lengths count, formatted
    together with ``tools``. ``marks`` are texts that a template might mistake for its own control tokens.
    """

    document: Mapping[str, Any]
    conversations: Sequence[Sequence[Message]]
    tools: Sequence[Any]
    marks: frozenset[str]

    @property
    def key(self) -> bytes:
        """A key that is the same for lines with the same content."""
        return orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS)


def reader_for(method: Method, grader: Mapping[str, Any] | None = None) -> Callable[[bytes], TrainingExample]:
    """Return the function that reads a line for ``method``; it raises `WrongLineError`."""
    names = fields(grader) if grader else frozenset()
    reads: Mapping[Method, Callable[[Mapping[str, Any]], TrainingExample]] = {
        "supervised": _supervised,
        "dpo": _preference,
        "reinforcement": lambda document: _read_graded(document, names),
    }
    read = reads[method]
    return lambda data: read(_document(data))


def _document(data: bytes) -> Mapping[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WrongLineError(f"byte {error.start + 1} is not UTF-8; save the file as UTF-8") from error
    try:
        document = orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise WrongLineError(
            f"it is not JSON ({str(error)[:120]}); each line must contain one object"
        ) from error
    if not isinstance(document, dict):
        raise WrongLineError("it is JSON, but not an object")
    return document


def _supervised(document: Mapping[str, Any]) -> TrainingExample:
    if "messages" not in document and {"prompt", "completion"} <= document.keys():
        document = {
            **document,
            "messages": [
                {"role": "user", "content": document["prompt"]},
                {"role": "assistant", "content": document["completion"]},
            ],
        }
    if "messages" not in document and "preferred_output" in document:
        raise WrongLineError("it is a preference pair; use the method 'dpo' to train on it")
    messages = _messages(document.get("messages"), "messages")
    if messages[-1]["role"] != "assistant":
        raise WrongLineError("the last message must be the assistant's, because the model learns it")
    learnt = [m for m in messages if m["role"] == "assistant" and m.get("weight", 1) != 0]
    if not learnt:
        raise WrongLineError("every assistant message has the weight 0, so the model would learn nothing")
    tools = _tools(document)
    return _line({"messages": messages}, tools, [messages])


def _preference(document: Mapping[str, Any]) -> TrainingExample:
    input_fields = document.get("input")
    if not isinstance(input_fields, Mapping):
        raise WrongLineError("'input' is missing: an object with the 'messages' before both answers")
    prompt = _messages(input_fields.get("messages"), "input.messages")
    if prompt[-1]["role"] == "assistant":
        raise WrongLineError(
            "'input.messages' must not end with an assistant message, because the answers follow them"
        )
    answers = {}
    for name in ("preferred_output", "non_preferred_output"):
        answers[name] = _messages(document.get(name), name)
        if any(message["role"] != "assistant" for message in answers[name]):
            raise WrongLineError(f"'{name}' must contain only assistant messages")
    preferred, rejected_messages = answers["preferred_output"], answers["non_preferred_output"]
    if preferred == rejected_messages:
        raise WrongLineError("both answers are identical, so neither is preferred")
    return _line(
        {"prompt": prompt, "chosen": preferred, "rejected": rejected_messages},
        _tools(input_fields),
        [[*prompt, *preferred], [*prompt, *rejected_messages]],
    )


def _read_graded(document: Mapping[str, Any], names: frozenset[str]) -> TrainingExample:
    prompt = _messages(document.get("messages"), "messages")
    if prompt[-1]["role"] == "assistant":
        raise WrongLineError("the last message must not be the assistant's, because the model writes it")
    item = {name: value for name, value in document.items() if name not in ("messages", "tools")}
    for name in sorted(names):
        if name not in item:
            raise WrongLineError(f"the grader uses the field '{name}', which the line does not have")
    return _line({"prompt": prompt, "item": item}, _tools(document), [prompt])


def _line(
    document: dict[str, Any], tools: Sequence[Any], conversations: Sequence[Sequence[Message]]
) -> TrainingExample:
    if tools:
        document["tools"] = list(tools)
    marks = {mark for conversation in conversations for message in conversation for mark in _marks(message)}
    return TrainingExample(document, conversations, tools, frozenset(marks))


def _messages(value: Any, path: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value:
        raise WrongLineError(f"'{path}' is missing: expected a list of messages")
    return [_message(message, f"{path}[{place}]") for place, message in enumerate(value)]


def _message(value: Any, path: str) -> dict[str, Any]:
    """Return a message in the form that templates accept: a single text, and only fields that templates know."""
    if not isinstance(value, Mapping):
        raise WrongLineError(f"'{path}' is not an object with 'role' and 'content'")
    role = value.get("role")
    if role not in ROLES:
        raise WrongLineError(f"'{path}.role' is {str(role)[:40]!r}; it must be one of {', '.join(ROLES)}")
    message: dict[str, Any] = {"role": "system" if role == "developer" else role}
    text = _text(value.get("content"), path)
    calls = value.get("tool_calls")
    if calls is not None and (role != "assistant" or not isinstance(calls, list) or not calls):
        raise WrongLineError(f"'{path}.tool_calls' must be a list of calls in an assistant message")
    if not calls and not text.strip():
        raise WrongLineError(f"'{path}.content' is empty")
    message["content"] = text
    if calls:
        message["tool_calls"] = [
            _call(call, f"{path}.tool_calls[{place}]") for place, call in enumerate(calls)
        ]
    for name in ("name", "tool_call_id"):
        if name in value:
            message[name] = _clean(value[name], f"{path}.{name}")
    if "weight" in value and role == "assistant":
        if value["weight"] not in (0, 1) or isinstance(value["weight"], bool):
            raise WrongLineError(f"'{path}.weight' must be 0 or 1")
        message["weight"] = value["weight"]
    return message


def _text(content: Any, path: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return _clean(content, f"{path}.content")
    if not isinstance(content, list):
        raise WrongLineError(f"'{path}.content' must be text")
    texts = []
    for part in content:
        if (
            not isinstance(part, Mapping)
            or part.get("type") != "text"
            or not isinstance(part.get("text"), str)
        ):
            raise WrongLineError(
                f"'{path}.content' contains a part that is not text; training supports only text"
            )
        texts.append(_clean(part["text"], f"{path}.content"))
    return "".join(texts)


def _clean(text: Any, path: str) -> str:
    if not isinstance(text, str):
        raise WrongLineError(f"'{path}' must be text")
    match = _CONTROL.search(text)
    if match:
        raise WrongLineError(
            f"'{path}' contains the control character U+{ord(match.group()):04X} at position "
            f"{match.start() + 1}"
        )
    return text


def _call(value: Any, path: str) -> dict[str, Any]:
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise WrongLineError(f"'{path}' must have a 'function' with 'name' and 'arguments'")
    arguments = function.get("arguments", "{}")
    if isinstance(arguments, Mapping):
        arguments = orjson.dumps(arguments).decode()
    return {
        "id": str(value.get("id", "")),
        "type": "function",
        "function": {"name": _clean(function["name"], path), "arguments": _clean(arguments, path)},
    }


def _tools(document: Mapping[str, Any]) -> Sequence[Any]:
    tools = document.get("tools")
    if tools is None:
        return ()
    good = isinstance(tools, list) and all(
        isinstance(tool, Mapping) and isinstance(tool.get("function"), Mapping) for tool in tools
    )
    if not good:
        raise WrongLineError("'tools' must be a list of functions in the format of chat completions")
    return list(tools)


def _marks(message: Message) -> Iterator[str]:
    yield from CONTROL_TOKENS.findall(message["content"])
    for call in message.get("tool_calls") or ():
        yield from CONTROL_TOKENS.findall(call["function"]["arguments"])
