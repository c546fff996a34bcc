"""Options of a model call: the names and types of the options of a chat completion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict

from portico.spelling import nearest
from portico.wire import Unsupported


class ModelOptions(TypedDict, total=False):
    """Options of a model call: OpenAI's fields of a chat completion.

    ``extra_body`` contains options that only some models support (``top_k``, ``min_p``, ``chat_template_kwargs`` …)
    and is passed on unchanged. ``conversation`` is the session of an app that stores sessions.
    """

    audio: Mapping[str, Any]
    conversation: str
    extra_body: Mapping[str, Any]
    frequency_penalty: float
    function_call: Any
    functions: list[Any]
    logit_bias: Mapping[str, float]
    logprobs: bool
    max_completion_tokens: int
    max_tokens: int
    metadata: Mapping[str, str]
    modalities: list[str]
    n: int
    parallel_tool_calls: bool
    prediction: Mapping[str, Any]
    presence_penalty: float
    prompt_cache_key: str
    prompt_cache_retention: str
    reasoning_effort: str
    response_format: Mapping[str, Any]
    safety_identifier: str
    seed: int
    service_tier: str
    stop: str | list[str]
    store: bool
    temperature: float
    tool_choice: Any
    top_logprobs: int
    top_p: float
    verbosity: str
    web_search_options: Mapping[str, Any]


class ChatOptions(ModelOptions, total=False):
    """All options of a chat completion except its model and its messages. ``unsupported`` is only for apps over a
    store.
    """

    tools: list[Any]
    unsupported: Unsupported
    user: str


MODEL_OPTIONS: Final[frozenset[str]] = ModelOptions.__optional_keys__
CHAT_OPTIONS: Final[frozenset[str]] = ChatOptions.__optional_keys__


def unknown_option(options: Iterable[str], known: Iterable[str] = CHAT_OPTIONS) -> tuple[str, str] | None:
    """Return the first name that is not a model option, and an error message about it. Return ``None`` if all are
    known.
    """
    names = frozenset(known)
    for name in options:
        if name not in names:
            hint = nearest(name, names) or " Options that only some models support go into 'extra_body'."
            return name, f"Models have no option '{name}'.{hint}"
    return None


def flat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as fields of a request. The contents of ``extra_body`` become fields, too."""
    plain_options = {name: value for name, value in options.items() if name != "extra_body"}
    return {**plain_options, **(options.get("extra_body") or {})}
