"""Models and the hardware they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from portico._async.calls import models as calls_models
from portico._read import Page
from portico._request import Message, at, by_id, without_none
from portico.schemas.deployments import BetterTask
from portico.schemas.models import StoredChat


class Chats(calls_models.Chats):
    """Chat completions that were requested with ``store`` in ``extra_body``."""

    async def list(
        self,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page[StoredChat]:
        """Return a page of stored chat completions, newest first unless ``order`` is ``asc``; ``after`` is the
        ``last_id`` of the previous page.
        """
        labels = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        query = {**without_none(model=model, after=after, limit=limit, order=order), **labels}
        return await self._transport.request("GET", "/v1/chat/completions", Page[StoredChat], query=query)

    async def messages(self, chat_id: str) -> Sequence[Message]:
        """Return the first 100 messages of the stored request."""
        path = self._at(chat_id, "messages")
        return await self._transport.request("GET", path, list[Message], query={"limit": 100})

    def _at(self, chat_id: str, *parts: str) -> str:
        return at("v1", "chat", "completions", by_id(chat_id, "a chat"), *parts)


class Models(calls_models.Models):
    """Names that can be called at ``/v1``, and the sources of models."""

    async def decide_better(self, accept: bool, task: BetterTask = "chat") -> str | None:
        """Accept or decline the offer of a better model.

        If accepted, download the model, make it ``default`` or ``default-embedding``, and return the id of the run. If
        declined, return ``None``.
        """
        body = {"accept": accept, "task": task}
        decision = await self._transport.request("POST", "/api/models/better", dict[str, Any], json=body)
        return None if decision.get("run") is None else str(decision["run"])
