# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, by_id, given, named
from portico.schemas.deployments import BetterModel, Plan
from portico.schemas.models import Model, StoredChat


class Chats(Group):
    """Chat completions that were asked for with ``store``, in ``extra_body`` of a chat."""

    async def get(self, chat_id: str) -> StoredChat:
        """Return one stored chat completion."""
        return await self._transport.request(
            "GET", at("v1", "chat", "completions", by_id(chat_id, "a chat")), StoredChat
        )

    async def change(self, chat_id: str, metadata: Mapping[str, str] | None) -> StoredChat:
        """Replace the metadata of a stored chat completion.

        Other metadata for a stored chat completion.
        """
        return await self._transport.request(
            "POST",
            at("v1", "chat", "completions", by_id(chat_id, "a chat")),
            StoredChat,
            json=given(metadata=metadata),
        )

    async def remove(self, chat_id: str) -> None:
        """Delete a stored chat completion."""
        return await self._transport.request(
            "DELETE", at("v1", "chat", "completions", by_id(chat_id, "a chat")), None
        )


class Models(Group):
    """Names that answer at ``/v1``, and where models come from."""

    async def list(self) -> Sequence[Model]:
        """Return all models, apps and aliases that the caller may use."""
        return await self._transport.request("GET", "/v1/models", list[Model])

    async def pull(self, source: str) -> str:
        """Fetch the files of a model source, in a durable run.

        A model source, such as ``hf://ORG/REPO/FILE``.
        """
        return await self._transport.request(
            "POST", "/api/models/pull", str, json=given(source=source), key="run"
        )

    async def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """Say how a model would run here or on other hardware, without running it.

        A model's name or source, and what to plan for; ``hardware`` is a preset's name, empty for this
        machine.
        """
        return await self._transport.request(
            "POST",
            "/api/models/plan",
            Plan,
            json=given(model=model, hardware=hardware, parameters=parameters),
        )

    async def better(self) -> BetterModel:
        """A better model for this machine than the tiny one, and where it can be fetched from. Takes some
        seconds.
        """
        return await self._transport.request("GET", "/api/models/better", BetterModel, slow=True)

    async def alias(self, name: str, target: str) -> None:
        """Let a name mean a model or app from now on, and after a restart.

        The model or app that an alias means.
        """
        return await self._transport.request(
            "PUT", at("api", "aliases", named(name, "an alias")), None, json=given(target=target)
        )
