"""Selects the model for a capability: the model that a call names, or the first suitable one."""

from __future__ import annotations

from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry


async def able(
    registry: Registry,
    capability: str,
    model_name: str,
    caller: Principal,
    *,
    task_name: str,
    example: str,
    usual: str = "",
) -> str:
    """Return the name of a model with ``capability``: ``model_name``, otherwise ``usual``, otherwise the first model.

    ``task_name`` is what the model does, such as 'draws', and ``example`` is a command that adds such a model; error
    messages contain both. Raise `InvalidRequest` if the named model lacks the capability, `Unavailable` if no model
    has it.
    """
    if model_name:
        card = (await registry.resolve(model_name, caller)).card
        if capability in card.capabilities:
            return model_name
    names = await registry.names_with(capability, caller, "model", "app")
    if model_name:
        hint = (
            f" {', '.join(names[:5])} can."
            if names
            else f" No deployed model {task_name}; add one: {example}"
        )
        raise InvalidRequest(
            f"'{model_name}' is not a model that {task_name}.{hint}",
            code="model_lacks_capability",
            param="arguments.model",
        )
    servable = registry.get(usual) if usual else None
    if servable is not None and servable.card.name in names:
        return usual
    if not names:
        raise Unavailable(f"No deployed model {task_name}. Add one: {example}", code="no_such_model")
    return names[0]
