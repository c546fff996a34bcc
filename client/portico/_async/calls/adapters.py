# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.adapters`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.adapters import Adapter


class Adapters(Group):
    """Small sets of weights on top of a model's own, each a model name of its own."""

    async def list(self, base: str | None = None) -> Sequence[Adapter]:
        """All adapters, or those of one model, by name."""
        return await self._transport.request("GET", "/api/adapters", list[Adapter], query=given(base=base))

    async def get(self, name: str) -> Adapter:
        """One adapter, by name or alias."""
        return await self._transport.request("GET", at("api", "adapters", named(name, "an adapter")), Adapter)

    async def add(self, base: str, path: str | Path, name: str, *, scale: float | None = None) -> Adapter:
        """Copy an adapter, try it with its base, and serve it. Calls in flight are answered.

        An adapter at ``path`` on the daemon's machine, to be served as ``name``.

        ``scale``: (default: ``1.0``).
        """
        return await self._transport.request(
            "POST",
            "/api/adapters",
            Adapter,
            json=given(base=base, path=path, name=name, scale=scale),
            slow=True,
        )

    async def scale(self, name: str, scale: float) -> Adapter:
        """Give an adapter another scale, from the next call on.

        Another scale: 0 is the base alone, 1 what the adapter was trained for.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "adapters", named(name, "an adapter")),
            Adapter,
            json=given(scale=scale),
            slow=True,
        )

    async def export(
        self,
        name: str,
        path: str | Path,
        *,
        merged: bool | None = None,
        format: str | None = None,
        type: str | None = None,
    ) -> str:
        """Write an adapter, or its model with it, to a place on the daemon's machine, in a durable run.

        Where an adapter is to be written on the daemon's machine: ``path`` must not exist yet.

        ``merged``: folded into its model. ``type`` is what the numbers of a GGUF file are written as.

        ``format``: ``safetensors`` | ``gguf`` (default: ``safetensors``).

        ``type``: (default: ``f16``).
        """
        return await self._transport.request(
            "POST",
            at("api", "adapters", named(name, "an adapter"), "export"),
            str,
            json=given(path=path, merged=merged, format=format, type=type),
            key="run",
        )

    async def remove(self, name: str) -> None:
        """Take an adapter away, with the daemon's copy of it. Calls in flight are answered."""
        return await self._transport.request(
            "DELETE", at("api", "adapters", named(name, "an adapter")), None, slow=True
        )
