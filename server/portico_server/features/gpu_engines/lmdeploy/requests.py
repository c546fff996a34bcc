"""Builds the request bodies for LMDeploy, one per choice. Rejects fields that LMDeploy would silently ignore. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import Relay
from portico_server.models.engines.openai_client.client import (
    requires_tool_call,
)
from portico_server.models.engines.openai_client.requests import (
    PreparedRequest,
    prepare_chat,
    prepare_completion,
)

_ITS_OWN = frozenset({"session_id", "migration_request", "with_cache", "preserve_cache"})
"""Fields that LMDeploy's servers use among themselves, which are removed from requests."""


def requests_for(request: Relay, name: str, *, template_has_tools: bool, biases: bool) -> PreparedRequest:
    """Return the bodies for a chat or a completion. ``biases`` means that the backend supports ``logit_bias``.

    Raises `InvalidRequest` if the request needs something that LMDeploy cannot do.
    """
    body = {key: value for key, value in request.body.items() if key not in _ITS_OWN}
    _refuse(body, name, biases=biases)
    if request.operation == "completions":
        return _completion(body, name)
    native = template_has_tools and not requires_tool_call(body)
    if native:
        prepared_request = prepare_chat({**body, "messages": []}, template_has_tools=True)
        # LMDeploy applies the model's own template, so the messages are passed on unchanged
        if prepared_request.tools is None:
            return _thoughtless(_with(prepared_request, messages=body.get("messages") or []))
    prepared_request = prepare_chat(body, template_has_tools=native, sees=True)
    # Stop texts are not meant for the JSON that a model writes when it is forced to call a tool.
    return _thoughtless(
        prepared_request if prepared_request.tools is None else _with(prepared_request, stop=None)
    )


def _refuse(body: Mapping[str, Any], name: str, *, biases: bool) -> None:
    for key in ("presence_penalty", "frequency_penalty"):
        if body.get(key):
            raise _cannot(
                f"LMDeploy, which serves '{name}', does not support '{key}'; use 'repetition_penalty'.", key
            )
    if body.get("logit_bias") and not biases:
        raise _cannot(
            "LMDeploy's backend turbomind does not support 'logit_bias': set the parameter 'backend: "
            f"pytorch' of '{name}'.",
            "logit_bias",
        )


def _completion(body: dict[str, Any], name: str) -> PreparedRequest:
    if body.get("logprobs") is not None:
        raise _cannot(
            f"LMDeploy, which serves '{name}', returns log-probabilities only for chats: leave out "
            "'logprobs'.",
            "logprobs",
        )
    prompt = body.get("prompt")
    if isinstance(prompt, list) and not all(isinstance(text, str) for text in prompt):
        raise _cannot(
            f"LMDeploy, which serves '{name}', accepts only text as 'prompt', not token ids.", "prompt"
        )
    return prepare_completion(body)


def _thoughtless(request: PreparedRequest) -> PreparedRequest:
    """Return the request, with reasoning disabled if the output must fit a schema.

    LMDeploy enforces the schema from the first token. If the model usually reasons first, LMDeploy would therefore
    treat the whole answer as reasoning.
    """
    template_options = request.bodies[0].get("chat_template_kwargs") or {}
    if "response_format" not in request.bodies[0] or "enable_thinking" in template_options:
        return request
    return _with(request, chat_template_kwargs={**template_options, "enable_thinking": False})


def _with(request: PreparedRequest, **fields: Any) -> PreparedRequest:
    """Return the request with these fields in every body. Fields that are ``None`` are removed."""
    bodies = ({**body, **fields} for body in request.bodies)
    return replace(
        request,
        bodies=tuple({key: value for key, value in body.items() if value is not None} for body in bodies),
    )


def _cannot(message: str, param: str) -> InvalidRequest:
    return InvalidRequest(message, code="unsupported_parameter", param=param)
