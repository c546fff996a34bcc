"""Checks whether a target can replace the current target of an alias."""

from __future__ import annotations

from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.core.registry import Registry
from portico_server.core.servable import Card
from portico_server.features.canaries.spec import CanarySpec


async def check_target(registry: Registry, alias: str, baseline: str, spec: CanarySpec) -> None:
    """Raise `PorticoError` unless the target of the canary can replace the baseline."""
    target = spec.target
    if target in (alias, baseline):
        raise InvalidRequest(
            f"'{alias}' already points to '{baseline}'. Name another target.", param="target"
        )
    if target in registry.aliases:
        raise InvalidRequest(
            f"'{target}' is itself an alias. Name its target: '{registry.aliases[target]}'.",
            param="target",
        )
    baseline_card, target_card = await _card(registry, baseline), await _card(registry, target)
    if baseline_card is None or target_card is None:
        missing = baseline if baseline_card is None else target
        app_names = [card.name for card in _shared_cards(registry)]
        raise NotFound(
            f"'{missing}' is neither a model nor a version of an app. Write a version as NAME@NUMBER; "
            f"portico apps versions NAME lists the numbers.{nearest(missing, app_names)}",
            code="model_not_found",
            param="target",
        )
    for card, name in ((baseline_card, baseline), (target_card, target)):
        if "chat" not in card.capabilities:
            raise InvalidRequest(
                f"'{name}' does not support chat; calls can be split only between targets that support chat.",
                code="unsupported_operation",
                param="target",
            )
        if card.kind == "app" and name == card.name:
            at = f"{name}@{card.labels.get('version') or 'NUMBER'}"
            fix = (
                f"Point the alias to a version first: portico models alias '{alias}' '{at}'."
                if name == baseline
                else f"Name a version, such as '{at}'."
            )
            raise InvalidRequest(
                f"'{name}' is the latest deployed version of the app, and calls are split between fixed "
                f"versions. {fix}",
                code="version_needed",
                param="target",
            )
    if baseline_card.kind != target_card.kind or baseline_card.id != target_card.id:
        raise InvalidRequest(
            "Calls are split between two models, or two versions of one app; this does not apply to "
            f"'{baseline}' and '{target}'.",
            param="target",
        )
    if spec.min_confidence is not None and baseline_card.kind != "model":
        raise InvalidRequest(
            f"'{target}' is a version of an app, whose answers have no probabilities. Omit 'min_confidence', or "
            "split calls between two models.",
            code="unsupported_operation",
            param="min_confidence",
        )


def _shared_cards(registry: Registry) -> list[Card]:
    return [servable.card for servable in registry if servable.card.kind in ("model", "app")]


async def _card(registry: Registry, target: str) -> Card | None:
    servable = registry.get(target) or await registry.version(target)
    return None if servable is None else servable.card
