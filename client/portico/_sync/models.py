# Generated from portico._async by scripts/sdk: change it there.
"""Models and what they run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from portico._read import Page
from portico._request import Message, at, by_id, given
from portico._sync.calls import models as calls_models
from portico.schemas.models import StoredChat


class Chats(calls_models.Chats):
    """Chat completions that were asked for with ``store``, in ``extra_body`` of a chat."""

    def list(
        self,
        *,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page[StoredChat]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        labels = {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        query = {**given(model=model, after=after, limit=limit, order=order), **labels}
        return self._transport.request("GET", "/v1/chat/completions", Page[StoredChat], query=query)

    def messages(self, chat_id: str) -> Sequence[Message]:
        """The messages of its request, the first 100."""
        path = self._at(chat_id, "messages")
        return self._transport.request("GET", path, list[Message], query={"limit": 100})

    def _at(self, chat_id: str, *parts: str) -> str:
        return at("v1", "chat", "completions", by_id(chat_id, "a chat"), *parts)


class Models(calls_models.Models):
    """Names that answer at ``/v1``, and where models come from."""

    def decide_better(self, accept: bool) -> str | None:
        """Fetch that model, whereupon ``default`` means it: the id of the run. Or do not offer it again: ``None``."""
        body = {"accept": accept}
        decision = self._transport.request("POST", "/api/models/better", dict[str, Any], json=body)
        return None if decision.get("run") is None else str(decision["run"])
