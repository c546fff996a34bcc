# Made from portico/_async by scripts/twin: change it there.
"""Canaries: aliases whose calls are split between what they mean and what they may mean next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.canaries import Canary

WHAT = "an alias"


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
        """Let ``target``, a model or a version such as ``desk@4``, answer a share ``weight`` of the calls of an alias,
        and all of the ``keys``.

        ``sticky``: what stays on its side, a ``session``, a ``caller`` or a ``request``. The evaluation ``eval``
        judges the share ``sample`` of the answers. ``promote`` and ``rollback`` are rules: ``after`` so many calls,
        ``min_samples``, ``min_score``, ``max_drop``, ``max_error_rate``, ``max_latency_ratio``. The same target again
        changes the weight and the rules, and continues to count.
        """
        body = given(
            target=target,
            weight=weight,
            keys=list(keys) if keys is not None else None,
            sticky=sticky,
            sample=sample,
            eval=eval,
            promote=dict(promote) if promote is not None else None,
            rollback=dict(rollback) if rollback is not None else None,
        )
        return self._transport.request("PUT", self._at(alias), Canary, json=body)

    def list(self) -> Sequence[Canary]:
        """The newest of each alias, by alias; also one that has ended."""
        return self._transport.request("GET", "/api/canaries", list[Canary])

    def get(self, alias: str) -> Canary:
        """The newest of an alias, with its figures and its journal. Raises `NotFound`."""
        return self._transport.request("GET", self._at(alias), Canary)

    def history(self, alias: str) -> Sequence[Canary]:
        """Those of an alias, the newest first."""
        return self._transport.request("GET", self._at(alias, "history"), list[Canary])

    def promote(self, alias: str, *, reason: str = "") -> Canary:
        """Let the alias mean the canary's target from now on. Raises `Conflict` if it has ended."""
        body = {"reason": reason}
        return self._transport.request("POST", self._at(alias, "promote"), Canary, json=body)

    def rollback(self, alias: str, *, reason: str = "") -> Canary:
        """Let the alias mean what it meant, from now on. Calls in progress end where they are."""
        body = {"reason": reason}
        return self._transport.request("POST", self._at(alias, "rollback"), Canary, json=body)

    def _at(self, alias: str, *more: str) -> str:
        return at("api", "canaries", named(alias, WHAT), *more)
