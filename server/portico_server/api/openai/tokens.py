"""``POST /tokenize`` and ``/detokenize``: texts in a model's tokens, in the shape of vLLM.

Source: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.openai import validate
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.request import Detokenize, Detokenized, Tokenize, Tokens

router = new_router(tags=["Models"])


class TokenizeWish(BaseModel):
    """A ``prompt``, or ``messages`` that are written as the model's template does.

    ``add_special_tokens`` is by default what a call of the model does; ``add_generation_prompt``: end a conversation
    with what makes the model answer.
    """

    model: str
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool = False


class Tokenized(BaseModel):
    """``max_model_len`` is how many tokens one call may have."""

    count: int
    max_model_len: int | None
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeWish(BaseModel):
    """Tokens of a model."""

    model: str
    tokens: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=10_000_000)]


class DetokenizedText(BaseModel):
    """The text that they stand for."""

    prompt: str


@router.post("/tokenize")
async def tokenize(wish: TokenizeWish, parts: TheParts, caller: Caller) -> Tokenized:
    """Tell a text or a conversation in a model's tokens; loads the model."""
    if (wish.prompt is None) == (wish.messages is None):
        raise InvalidRequest("Send either 'prompt' or 'messages'.", param="prompt")
    if wish.messages is not None:
        validate.messages(wish.messages)
    asked = Tokenize(
        wish.prompt,
        tuple(wish.messages) if wish.messages is not None else None,
        wish.add_special_tokens,
        wish.add_generation_prompt,
        wish.return_token_strs,
    )
    found = await parts.runner.call("tokenize", wish.model, asked, caller)
    if not isinstance(found, Tokens):
        raise PorticoError(f"'{wish.model}' answered a request for tokens with something else.")
    return Tokenized(
        count=len(found.ids),
        max_model_len=found.longest,
        tokens=list(found.ids),
        token_strs=None if found.texts is None else list(found.texts),
    )


@router.post("/detokenize")
async def detokenize(wish: DetokenizeWish, parts: TheParts, caller: Caller) -> DetokenizedText:
    """Tell tokens as text; loads the model."""
    asked = Detokenize(tuple(wish.tokens))
    found = await parts.runner.call("detokenize", wish.model, asked, caller)
    if not isinstance(found, Detokenized):
        raise PorticoError(f"'{wish.model}' answered a request for text with something else.")
    return DetokenizedText(prompt=found.text)
