# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.adapters`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from portico._async.group import Group
from portico._request import at, check_path_name, without_none
from portico.schemas.adapters import Adapter


class Adapters(Group):
    """Small sets of weights that extend a model, each with its own model name."""

    async def list(self, base: str | None = None) -> Sequence[Adapter]:
        """List all adapters, or the adapters of one base model, sorted by name."""
        return await self._transport.request(
            "GET", "/api/adapters", list[Adapter], query=without_none(base=base)
        )

    async def get(self, name: str) -> Adapter:
        """Return an adapter by name or alias."""
        return await self._transport.request(
            "GET", at("api", "adapters", check_path_name(name, "an adapter")), Adapter
        )

    async def add(self, base: str, path: str | Path, name: str, *, scale: float | None = None) -> Adapter:
        """Copy an adapter, test it with its base model, and serve it. Calls in progress are completed.

        An adapter at ``path`` on the daemon's machine, and the ``name`` under which it is served.

        ``scale``: (default: ``1.0``).
        """
        return await self._transport.request(
            "POST",
            "/api/adapters",
            Adapter,
            json=without_none(base=base, path=path, name=name, scale=scale),
            slow=True,
        )

    async def scale(self, name: str, scale: float) -> Adapter:
        """Change the scale of an adapter. The new scale applies from the next call on.

        A new scale: 0 is the base model alone, 1 the scale for which the adapter was trained.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "adapters", check_path_name(name, "an adapter")),
            Adapter,
            json=without_none(scale=scale),
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
        """Write an adapter, or its base model merged with it, to a path on the daemon's machine, in a durable
        run.

        Where to write an adapter on the daemon's machine; ``path`` must not exist yet.

        ``merged``: merge the adapter into its base model. ``type`` is the number format of a GGUF file.

        ``format``: ``safetensors`` | ``gguf`` (default: ``safetensors``).

        ``type``: (default: ``f16``).
        """
        return await self._transport.request(
            "POST",
            at("api", "adapters", check_path_name(name, "an adapter"), "export"),
            str,
            json=without_none(path=path, merged=merged, format=format, type=type),
            key="run",
        )

    async def remove(self, name: str) -> None:
        """Remove an adapter and the daemon's copy of it. Calls in progress are completed."""
        return await self._transport.request(
            "DELETE", at("api", "adapters", check_path_name(name, "an adapter")), None, slow=True
        )
