"""An adapter served under its own model name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from portico.schemas.adapters import Adapter
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.relay import AdapterScale, Relay, RelayResponse
from portico_server.core.request import Chat, Detokenize, Request, Result, Tokenize
from portico_server.core.servable import Card
from portico_server.models import answers
from portico_server.models.deployment import Deployment
from portico_server.models.protocol import CHAT, AttachesAdapters

State: TypeAlias = Literal["cold", "ready", "failed", "orphaned"]

FindDeployment = Callable[[str], Deployment | None]


@dataclass(frozen=True, slots=True)
class AdapterInfo(Adapter):
    """An adapter, with the key that owns it.

    ``trained_on`` is the base model that the adapter's files name. ``configured`` means that the adapter is defined in
    the configuration file.
    """

    owner: str | None


class AdaptedModel:
    """A base model with one adapter, as a `Servable` that also `Relays`. ``find`` returns the base model."""

    def __init__(
        self,
        adapter: AdapterScale,
        base: str,
        facts: Mapping[str, Any],
        find: FindDeployment,
        *,
        owner: str | None,
        created_at: float,
        is_configured: bool,
    ) -> None:
        self.adapter = adapter
        self.base = base
        self.facts = facts
        self.configured = is_configured
        self._find = find
        self._owner = owner
        self._created = created_at
        self._base_card: Card | None = None
        self._card = self._make_card(None)

    @property
    def name(self) -> str:
        return self.adapter.name

    @property
    def path(self) -> Path:
        """The path at which the adapter is stored."""
        return self.adapter.path

    def scale(self, scale: float) -> None:
        """Change the scale of the adapter. The new scale applies from the next call."""
        self.adapter = replace(self.adapter, scale=scale)
        self._card = self._make_card(self._base_card)

    @property
    def card(self) -> Card:
        base = self._find(self.base)
        if base is not None and base.card is not self._base_card:
            self._base_card = base.card
            self._card = self._make_card(base.card)
        return self._card

    def _make_card(self, base: Card | None) -> Card:
        base_labels = base.labels if base is not None else {}
        kept_labels = ("engine", "context_length", "parameters")
        labels = {
            "base": self.base,
            "adapter": self.facts.get("kind"),
            "scale": self.adapter.scale,
            **{label: base_labels[label] for label in kept_labels if label in base_labels},
        }
        return Card(
            self.name,
            "model",
            description=f"'{self.base}' with an adapter",
            capabilities=base.capabilities if base is not None else CHAT,
            labels=labels,
            owner=self._owner,
            created=int(self._created),
        )

    def info(self) -> AdapterInfo:
        """Return the adapter as the API shows it."""
        base, facts = self._find(self.base), self.facts
        return AdapterInfo(
            name=self.name,
            base=self.base,
            kind=str(facts.get("kind", "")),
            scale=self.adapter.scale,
            state=self._state(base),
            engine=base.process.launch.kind.name if base is not None else None,
            rank=facts.get("rank"),
            alpha=facts.get("alpha"),
            targets=tuple(facts.get("targets") or ()),
            trained_on=str(facts.get("trained_on") or ""),
            bytes=int(facts.get("bytes") or 0),
            sha256=str(facts.get("sha256") or ""),
            configured=self.configured,
            owner=self._owner,
            created_at=self._created,
        )

    def _state(self, base: Deployment | None) -> State:
        if base is None:
            return "orphaned"
        if base.running is None:
            return "cold"
        client = base.running.client
        return "ready" if isinstance(client, AttachesAdapters) and client.fits(self.adapter) else "failed"

    async def call(self, request: Request, context: Context) -> Result:
        """Answer `Chat` with a `ChatReply` and its events. Token counts are those that the base model reports."""
        if isinstance(request, Chat):
            return await answers.read_reply(self, request, context)
        if isinstance(request, Tokenize | Detokenize):
            return await self._require_base().call(request, context)
        raise InvalidRequest(
            f"'{self.name}' is a chat model, which does not support {type(request).__name__}."
        )

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """See `portico_server.core.servable.Relays`."""
        return await self._require_base().relay(replace(request, adapter=self.adapter), context)

    def _require_base(self) -> Deployment:
        base = self._find(self.base)
        if base is None:
            raise Unavailable(
                f"'{self.name}' is an adapter of the model '{self.base}', which is no longer available. Add "
                "the model again, or remove the adapter.",
                code="base_model_missing",
            )
        return base
