"""``POST /tokenize`` and ``/detokenize``: convert text to a model's tokens and back, in the format of vLLM.

Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.openai.message_fields import MESSAGES
from portico_server.api.openai.tool_fields import (
    check_chosen_tool,
    check_response_format,
    check_tool_choice,
    check_tools,
)
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText

router = new_router(tags=["Models"])

_CHECKS: Final = {
    "tools": check_tools,
    "tool_choice": check_tool_choice,
    "response_format": check_response_format,
}
_OPTIONS: Final = (*_CHECKS, "chat_template_kwargs")


class TokenizeRequest(BaseModel):
    """A ``prompt``, or ``messages`` that the model's template converts to a prompt.

    ``add_special_tokens``: by default, special tokens are added as in a call of the model. ``add_generation_prompt``:
    end a conversation with the prompt for the model's answer. ``tools``, ``tool_choice``, ``response_format`` and
    ``chat_template_kwargs``: options of the conversation, as in a chat completion.
    """

    model: str
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class Tokenized(BaseModel):
    """A model's tokens; ``max_model_len`` is the maximum number of tokens in one call of the model."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(BaseModel):
    """Tokens of a model to convert to text."""

    model: str
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=10_000_000)]


class DetokenizedText(BaseModel):
    """The text that the tokens encode."""

    prompt: str


@router.post("/tokenize")
async def tokenize(body: TokenizeRequest, services: TheServices, caller: Caller) -> Tokenized:
    """Convert a text or a conversation to a model's tokens. This loads the model."""
    if (body.prompt is None) == (body.messages is None):
        raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
    if body.messages is not None:
        MESSAGES.check(body.messages, "messages")
    request = Tokenize(
        body.prompt,
        tuple(body.messages) if body.messages is not None else None,
        body.add_special_tokens,
        body.add_generation_prompt,
        body.return_token_strs,
        _checked_options(body),
    )
    tokenized = await services.runner.call("tokenize", body.model, request, caller)
    if not isinstance(tokenized, TokenizedText):
        raise PorticoError(f"'{body.model}' did not answer the request with tokens.")
    return Tokenized(
        count=len(tokenized.ids),
        max_model_len=tokenized.longest,
        tokens=list(tokenized.ids),
        token_strs=None if tokenized.texts is None else list(tokenized.texts),
    )


def _checked_options(body: TokenizeRequest) -> dict[str, Any]:
    """Return the options of the conversation. Raise `InvalidRequest` for an invalid option."""
    options = {name: value for name in _OPTIONS if (value := getattr(body, name)) is not None}
    for name, check in _CHECKS.items():
        if name in options:
            check(options[name], name)
    check_chosen_tool(body.tool_choice, body.tools or ())
    return options


@router.post("/detokenize")
async def detokenize(body: DetokenizeRequest, services: TheServices, caller: Caller) -> DetokenizedText:
    """Convert a model's tokens to text. This loads the model."""
    request = Detokenize(tuple(body.tokens))
    detokenized = await services.runner.call("detokenize", body.model, request, caller)
    if not isinstance(detokenized, Detokenized):
        raise PorticoError(f"'{body.model}' did not answer the request with text.")
    return DetokenizedText(prompt=detokenized.text)
