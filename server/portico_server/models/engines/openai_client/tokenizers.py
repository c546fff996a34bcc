"""Counts tokens through the engine's own server. Imports aiohttp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from portico_server.core.errors import EngineFailed
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText
from portico_server.models.openai_wire import error_of
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import (
    CONNECTION_ERRORS,
    EngineRoute,
    EngineTransport,
    deadline_exceeded,
    read_all,
)

_PROMPT_OPTIONS = ("tools", "chat_template_kwargs")
"""Chat options that vLLM's ``/tokenize`` accepts."""


class HttpTokenizer:
    """A tokenizer that posts JSON to an engine process's own endpoints, which are not part of OpenAI's API.

    ``longest`` is the maximum number of tokens in one call.
    """

    def __init__(
        self, transport: EngineTransport, child: ServerProcess, name: str, longest: int | None
    ) -> None:
        self._transport = transport
        self._child = child
        self._name = name
        self.longest = longest
        self._endpoint = child.endpoint(name, base="")

    async def ask(self, operation: str, body: Mapping[str, Any], deadline: float | None) -> dict[str, Any]:
        try:
            response = await self._transport.post(
                EngineRoute(self._endpoint, operation), orjson.dumps(body), deadline=deadline
            )
            data = await read_all(response, deadline=deadline)
        except CONNECTION_ERRORS as error:
            raise (
                deadline_exceeded(self._name)
                if type(error) is TimeoutError
                else await self._child.explain(error)
            ) from error
        if response.status != 200:
            raise error_of(response.status, data, self._name)
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            raise EngineFailed(f"The engine of '{self._name}' returned something other than a JSON object.")
        return document

    def wrong(self) -> EngineFailed:
        """Return the error for a response with an unexpected shape."""
        return EngineFailed(f"The engine of '{self._name}' returned something other than tokens.")


class VllmTokenizer(HttpTokenizer):
    """A tokenizer that uses vLLM's ``/tokenize`` and ``/detokenize``. Portico's own endpoints use the same format."""

    async def tokenize(self, request: Tokenize, deadline: float | None) -> TokenizedText:
        body: dict[str, Any] = {"model": self._name, "return_token_strs": request.texts}
        if request.messages is None:
            body["prompt"] = request.prompt
        else:
            body |= {"messages": list(request.messages), "add_generation_prompt": request.generation}
            body |= {name: request.options[name] for name in _PROMPT_OPTIONS if request.options.get(name)}
        if request.special is not None:
            body["add_special_tokens"] = request.special
        tokenization = await self.ask("tokenize", body, deadline)
        try:
            texts = tuple(map(str, tokenization["token_strs"])) if request.texts else None
            longest = tokenization.get("max_model_len") or self.longest
            return TokenizedText(tuple(map(int, tokenization["tokens"])), longest, texts)
        except (KeyError, TypeError, ValueError) as error:
            raise self.wrong() from error

    async def detokenize(self, request: Detokenize, deadline: float | None) -> Detokenized:
        body = {"model": self._name, "tokens": list(request.tokens)}
        prompt = (await self.ask("detokenize", body, deadline)).get("prompt")
        if not isinstance(prompt, str):
            raise self.wrong()
        return Detokenized(prompt)
