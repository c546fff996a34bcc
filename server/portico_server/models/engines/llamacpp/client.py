"""Speaks to llama.cpp's server: adapters by scale in each call, and texts in tokens. Imports aiohttp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.relay import AdapterScale, Relay
from portico_server.core.request import Detokenize, Detokenized, Tokenize, Tokens
from portico_server.models.engines.llamacpp.adapters import adapter_scales, is_same_file
from portico_server.models.engines.openai_client.client import ChoiceStreamClient, HttpTokenizer, ServerFacts
from portico_server.models.engines.openai_client.requests import prepare_chat
from portico_server.models.protocol import ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import EngineTransport


class LlamaCppClient(ChoiceStreamClient):
    """An `EngineClient` that `AttachesAdapters`: those in ``adapters`` were loaded when the server started."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        facts: ServerFacts,
        description: ModelDescription,
        adapters: Sequence[AdapterScale] = (),
    ) -> None:
        super().__init__(transport, child, name, facts, description)
        self._adapters = tuple(adapters)

    def fits(self, adapter: AdapterScale) -> bool:
        """See `portico_server.models.protocol.AttachesAdapters`. The scale is part of each call."""
        return any(is_same_file(one, adapter) for one in self._adapters)

    async def attach(self, adapter: AdapterScale) -> None:
        """An adapter that fits is loaded already."""

    async def detach(self, name: str) -> bool:
        """llama.cpp loads adapters when it starts, and at no other time."""
        return all(one.name != name for one in self._adapters)

    def _adapter_fields(self, request: Relay) -> dict[str, Any]:
        if "lora" in request.body:
            raise InvalidRequest(
                "Adapters are models here: put the adapter's name into 'model' and leave 'lora' out.",
                param="lora",
            )
        try:
            return adapter_scales(self._adapters, request.adapter)
        except ValueError as error:
            raise Unavailable(
                f"The adapter '{error}' could not be loaded with '{self._name}'. The daemon's log says why.",
                code="adapter_not_loaded",
            ) from error


class LlamaTokenizer(HttpTokenizer):
    """llama.cpp's ``/tokenize``, ``/detokenize`` and ``/apply-template``."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        longest: int | None,
        *,
        template_has_tools: bool,
    ) -> None:
        super().__init__(transport, child, name, longest)
        self._template_has_tools = template_has_tools

    async def tokenize(self, request: Tokenize, deadline: float | None) -> Tokens:
        text = request.prompt
        if request.messages is not None:
            # As a call would have them.
            given: dict[str, Any] = {"messages": list(request.messages)}
            if request.tools:
                given["tools"] = list(request.tools)
            [prepared] = prepare_chat(given, template_has_tools=self._template_has_tools).bodies
            request_body = {"messages": prepared["messages"], "add_generation_prompt": request.generation}
            if "tools" in prepared:
                request_body["tools"] = prepared["tools"]
            text = str((await self.ask("apply-template", request_body, deadline)).get("prompt", ""))
        body = {
            "content": text or "",
            "add_special": request.special is not False,
            "parse_special": True,
            "with_pieces": request.texts,
        }
        found = (await self.ask("tokenize", body, deadline)).get("tokens")
        try:
            if not request.texts:
                return Tokens(tuple(int(one) for one in found or ()), self.longest)
            ids = tuple(int(one["id"]) for one in found or ())
            return Tokens(ids, self.longest, tuple(_piece(one["piece"]) for one in found or ()))
        except (KeyError, TypeError, ValueError) as error:
            raise self.wrong() from error

    async def detokenize(self, request: Detokenize, deadline: float | None) -> Detokenized:
        found = (await self.ask("detokenize", {"tokens": list(request.tokens)}, deadline)).get("content")
        if not isinstance(found, str):
            raise self.wrong()
        return Detokenized(found)


def _piece(piece: Any) -> str:
    """A token's text; bytes where it is a part of a character."""
    return bytes(piece).decode("utf-8", "replace") if isinstance(piece, list) else str(piece)
