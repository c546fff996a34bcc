"""Tools that must be called, on a server that does not see to it: the model can write nothing but the call.

vLLM (as of 0.32) keeps to ``tool_choice: required`` and to a named function only where it was told how the model writes
its calls; what LMDeploy keeps to depends on its backend. Both keep to a JSON schema. Imports aiohttp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.relay import Relay, RelayResponse
from portico_server.engines.child import Child
from portico_server.engines.llamacpp.speaker import Facts, LlamaSpeaker
from portico_server.engines.protocol import Description, Speaker
from portico_server.engines.transport import Transport


class Forced:
    """A `Speaker` before another one, for chats in which a tool must be called."""

    def __init__(
        self, inner: Speaker, transport: Transport, child: Child, name: str, description: Description
    ) -> None:
        facts = Facts(description.context_length, template_has_tools=False, fingerprint=None, sees=True)
        self._inner = inner
        self._strict = _Strict(transport, child, name, facts, description)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.engines.protocol.Speaker`."""
        if request.operation == "chat/completions" and must_call(request.body):
            return await self._strict.relay(request, deadline)
        return await self._inner.relay(request, deadline)


def must_call(body: Mapping[str, Any]) -> bool:
    """Whether the model may not answer without a call."""
    choice = body.get("tool_choice")
    if isinstance(choice, Mapping) and choice.get("type") == "allowed_tools":
        choice = (choice.get("allowed_tools") or choice).get("mode")
    return bool(body.get("tools")) and (choice == "required" or isinstance(choice, Mapping))


class _Strict(LlamaSpeaker):
    """Asks as llama.cpp is asked, of a server that goes by the model's name."""

    def _lora(self, request: Relay) -> dict[str, Any]:
        return {"model": self._name if request.adapter is None else request.adapter.name}
