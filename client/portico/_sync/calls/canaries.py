# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.canaries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.canaries import Canary


class Canaries(Group):
    """For admins. `Models.alias` creates an alias; an app alias points to one of its versions, such as ``desk@3``."""

    def set(
        self,
        alias: str,
        target: str,
        *,
        weight: float | None = None,
        keys: Sequence[str] | None = None,
        sticky: str | None = None,
        min_confidence: float | None = None,
        sample: float | None = None,
        eval: str | None = None,
        promote: Mapping[str, Any] | None = None,
        rollback: Mapping[str, Any] | None = None,
    ) -> Canary:
        """Split the calls of an alias from now on.

        If the current canary has the same target, its weight and rules change and its counts stay.

        A canary to set. ``target`` is the alias's possible next target, a model or ``APP@VERSION``.

        ``weight`` is the target's share of calls; all calls of ``keys``, given by name or id, go to the
        target. ``sticky`` is the unit whose calls all go to the same side: a ``session`` (a conversation), a
        ``caller`` (a key) or a ``request``. With ``min_confidence``, the current target answers instead where
        the mean probability of the tokens in the canary's answer is lower. ``eval`` judges the share
        ``sample`` of the answers; without ``eval``, the current target answers this share of the canary's
        calls too, and the score is their agreement. The canary is promoted when all conditions of ``promote``
        are met, and rolled back when any condition of ``rollback`` is not met.

        ``sticky``: ``session`` | ``caller`` | ``request``.
        """
        return self._transport.request(
            "PUT",
            at("api", "canaries", check_path_name(alias, "an alias")),
            Canary,
            json=without_none(
                target=target,
                weight=weight,
                keys=keys,
                sticky=sticky,
                min_confidence=min_confidence,
                sample=sample,
                eval=eval,
                promote=promote,
                rollback=rollback,
            ),
        )

    def list(self) -> Sequence[Canary]:
        """List the newest canary of each alias, sorted by alias. The list includes canaries that have ended."""
        return self._transport.request("GET", "/api/canaries", list[Canary])

    def get(self, alias: str) -> Canary:
        """Return the newest canary of an alias, with its metrics and its journal."""
        return self._transport.request(
            "GET", at("api", "canaries", check_path_name(alias, "an alias")), Canary
        )

    def history(self, alias: str) -> Sequence[Canary]:
        """List the canaries of an alias, newest first. The last twenty are kept."""
        return self._transport.request(
            "GET", at("api", "canaries", check_path_name(alias, "an alias"), "history"), list[Canary]
        )

    def promote(self, alias: str, *, reason: str | None = None) -> Canary:
        """Point the alias to the canary's target, for all calls from now on.

        The reason for ending the canary. The canary's journal records it.
        """
        return self._transport.request(
            "POST",
            at("api", "canaries", check_path_name(alias, "an alias"), "promote"),
            Canary,
            json=without_none(reason=reason),
        )

    def rollback(self, alias: str, *, reason: str | None = None) -> Canary:
        """Point the alias back to its previous target, for all calls from now on. Calls in progress finish with
        the target they started with.

        The reason for ending the canary. The canary's journal records it.
        """
        return self._transport.request(
            "POST",
            at("api", "canaries", check_path_name(alias, "an alias"), "rollback"),
            Canary,
            json=without_none(reason=reason),
        )
