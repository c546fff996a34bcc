"""A model with fallbacks: if it fails before the first byte, the next model is called."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Chat, Request, Result
from portico_server.core.servable import Card, Relays, Servable, Surrounds
from portico_server.models import answers
from portico_server.models.answers import RelayingModel
from portico_server.models.spec import ModelSpec

logger = logging.getLogger(__name__)

FALLBACK_STATUSES = frozenset({401, 402, 403, 404, 408, 429})
"""Statuses of refusals that concern the provider and not the request, so that another provider may well answer."""


class WithFallback:
    """A `Servable` that also `Relays`: it calls ``first``, and if that fails, the models in ``other_names`` in order.

    The fallback lists of these other models are ignored. If all models fail, the caller gets the error of the first.
    """

    def __init__(self, first: RelayingModel, other_names: Sequence[str], registry: Registry) -> None:
        self.first = first
        self._other_names = tuple(other_names)
        self._registry = registry

    @property
    def card(self) -> Card:
        return self.first.card

    async def call(self, request: Request, context: Context) -> Result:
        """Call the first model; a chat goes through the whole chain."""
        if isinstance(request, Chat):
            return await answers.read_reply(self, request, context)
        return await self.first.call(request, context)

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """See `portico_server.core.servable.Relays`."""
        try:
            return await self.first.relay(request, context)
        except PorticoError as error:
            if error.status < 500 and error.status not in FALLBACK_STATUSES:
                raise
            for name in self._other_names:
                logger.warning("model %s: %s Asking %s instead.", self.card.name, error.message, name)
                try:
                    return await self._ask(name, request, context)
                except PorticoError as another:
                    logger.warning("model %s: %s", name, another.message)
            raise

    async def _ask(self, name: str, request: Relay, context: Context) -> RelayResponse:
        servable: Servable = await self._registry.resolve(name, context.caller)
        if isinstance(servable, WithFallback):
            servable = servable.first
        elif isinstance(servable, Surrounds) and isinstance(servable.inner, WithFallback):
            servable = servable.over(servable.inner.first)
        if servable is self.first or not isinstance(servable, Relays):
            raise InvalidRequest(
                f"'{name}' is not a model, or is the model itself, so it cannot be a fallback."
            )
        body = {**request.body, "model": servable.card.name}
        relay_response = await servable.relay(replace(request, body=body), context)
        relay_response.answered_by = servable.card.name
        return relay_response


def fallbacks(spec: ModelSpec) -> tuple[str, ...]:
    """Return the parameter ``fallback``: a name, or a list of names. Raise `InvalidRequest`."""
    value = spec.parameters.get("fallback") or ()
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise InvalidRequest(
            f"The parameter 'fallback' of '{spec.name}' must be the name of another model or a list of names.",
            param="parameters.fallback",
        )
    if spec.name in names:
        raise InvalidRequest(
            f"'{spec.name}' cannot be its own fallback: name another model.", param="parameters.fallback"
        )
    return tuple(names)
