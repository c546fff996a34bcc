# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.canaries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.canaries import Canary


class Canaries(Group):
    """For admins. An alias is made with `Models.alias`; one of an app means a version of it, such as ``desk@3``."""

    def set(
        self,
        alias: str,
        target: str,
        *,
        weight: float | None = None,
        keys: Sequence[str] | None = None,
        sticky: str | None = None,
        sample: float | None = None,
        eval: str | None = None,
        promote: Mapping[str, Any] | None = None,
        rollback: Mapping[str, Any] | None = None,
    ) -> Canary:
        """Split the calls of an alias from now on. With the same target as the one that runs: change weight and
        rules, and continue to count.

        A canary to set. ``target``: what the alias may mean next, a model or ``APP@VERSION``.

        ``weight``: the share of calls that it gets; ``keys``, by name or id, always get it. ``sticky``: what
        stays on its side, a ``session`` (a conversation), a ``caller`` (a key) or a ``request``. ``eval``
        judges the share ``sample`` of the answers. All conditions of ``promote`` promote it, any of
        ``rollback`` that does not hold takes it back.

        ``sticky``: ``session`` | ``caller`` | ``request``.
        """
        return self._transport.request(
            "PUT",
            at("api", "canaries", named(alias, "an alias")),
            Canary,
            json=given(
                target=target,
                weight=weight,
                keys=keys,
                sticky=sticky,
                sample=sample,
                eval=eval,
                promote=promote,
                rollback=rollback,
            ),
        )

    def list(self) -> Sequence[Canary]:
        """The newest canary of each alias, by alias; also one that has ended."""
        return self._transport.request("GET", "/api/canaries", list[Canary])

    def get(self, alias: str) -> Canary:
        """The newest canary of an alias, with its figures and its journal."""
        return self._transport.request("GET", at("api", "canaries", named(alias, "an alias")), Canary)

    def history(self, alias: str) -> Sequence[Canary]:
        """The canaries of an alias, the newest first. The last twenty are kept."""
        return self._transport.request(
            "GET", at("api", "canaries", named(alias, "an alias"), "history"), list[Canary]
        )

    def promote(self, alias: str, *, reason: str | None = None) -> Canary:
        """Let the alias mean the canary's target, for all calls from now on.

        Why it ends, for the journal.
        """
        return self._transport.request(
            "POST",
            at("api", "canaries", named(alias, "an alias"), "promote"),
            Canary,
            json=given(reason=reason),
        )

    def rollback(self, alias: str, *, reason: str | None = None) -> Canary:
        """Let the alias mean what it meant, for all calls from now on. Calls in progress end where they are.

        Why it ends, for the journal.
        """
        return self._transport.request(
            "POST",
            at("api", "canaries", named(alias, "an alias"), "rollback"),
            Canary,
            json=given(reason=reason),
        )
