# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.models`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, by_id, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.deployments import BetterModel, Plan
from portico.schemas.models import Model, StoredChat


class Chats(Group):
    """Chat completions that were requested with ``store`` in ``extra_body``."""

    def get(self, chat_id: str) -> StoredChat:
        """Return one stored chat completion."""
        return self._transport.request(
            "GET", at("v1", "chat", "completions", by_id(chat_id, "a chat")), StoredChat
        )

    def change(self, chat_id: str, metadata: Mapping[str, str] | None) -> StoredChat:
        """Replace the metadata of a stored chat completion.

        New metadata for a stored chat completion.
        """
        return self._transport.request(
            "POST",
            at("v1", "chat", "completions", by_id(chat_id, "a chat")),
            StoredChat,
            json=without_none(metadata=metadata),
        )

    def remove(self, chat_id: str) -> None:
        """Delete a stored chat completion."""
        return self._transport.request(
            "DELETE", at("v1", "chat", "completions", by_id(chat_id, "a chat")), None
        )


class Models(Group):
    """Names that can be called at ``/v1``, and the sources of models."""

    def list(self) -> Sequence[Model]:
        """Return all models, apps and aliases that the caller may use."""
        return self._transport.request("GET", "/v1/models", list[Model])

    def pull(self, source: str) -> str:
        """Download the files of a model source, in a durable run.

        A model source, such as ``hf://ORG/REPO/FILE``.
        """
        return self._transport.request(
            "POST", "/api/models/pull", str, json=without_none(source=source), key="run"
        )

    def plan(
        self, model: str, hardware: str | None = None, parameters: Mapping[str, Any] | None = None
    ) -> Plan:
        """Plan how a model would run on this or other hardware, without running it.

        A model's name or source, and the conditions to plan for; ``hardware`` is the name of a preset, empty
        for this machine.
        """
        return self._transport.request(
            "POST",
            "/api/models/plan",
            Plan,
            json=without_none(model=model, hardware=hardware, parameters=parameters),
        )

    def better(self, *, task: str | None = None) -> BetterModel:
        """Return a better model for this machine than the built-in model for a task, and its source. This takes
        some seconds.

        ``task``: ``chat`` | ``embedding`` (default: ``chat``).
        """
        return self._transport.request(
            "GET", "/api/models/better", BetterModel, query=without_none(task=task), slow=True
        )

    def alias(self, name: str, target: str) -> None:
        """Point a name to a model or app. The alias takes effect immediately and survives restarts.

        The model or app that an alias points to.
        """
        return self._transport.request(
            "PUT",
            at("api", "aliases", check_path_name(name, "an alias")),
            None,
            json=without_none(target=target),
        )
