"""Which model does something: the one that a call names, or the first that can."""

from __future__ import annotations

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry


async def able(
    registry: Registry,
    capability: str,
    named: str,
    caller: Principal,
    *,
    what: str,
    example: str,
    usual: str = "",
) -> str:
    """The name of a model with ``capability``; without one that is ``named``, what ``usual`` means, or the first.
    ``what`` it does, such as 'draws', and an ``example`` of how one is
    added, are for the errors: `InvalidRequest` for one that cannot, `Unavailable` if there is none.
    """
    if named:
        card = (await registry.resolve(named, caller)).card
        if capability in card.capabilities:
            return named
    cards = await registry.cards(caller, "model", "app")
    names = [card.name for card in cards if capability in card.capabilities]
    if named:
        hint = f" {', '.join(names[:5])} can." if names else f" No model here {what}; add one: {example}"
        raise InvalidRequest(
            f"'{named}' is not a model that {what}.{hint}",
            code="model_lacks_capability",
            param="arguments.model",
        )
    meant = registry.get(usual) if usual else None
    if meant is not None and meant.card.name in names:
        return usual
    if not names:
        raise Unavailable(f"No model here {what}. Add one: {example}", code="no_such_model")
    return names[0]
