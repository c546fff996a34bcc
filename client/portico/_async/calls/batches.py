# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.batches`."""

from __future__ import annotations

from portico._async.group import Group
from portico._read import Page
from portico._request import at, by_id, without_none
from portico.schemas.batches import Batch


class Batches(Group):
    """Many requests in a file, processed in the background."""

    async def list(self, *, after: str | None = None, limit: int | None = None) -> Page[Batch]:
        """Return the caller's batches, newest first.

        ``limit``: (default: ``20``).
        """
        return await self._transport.request(
            "GET", "/v1/batches", Page[Batch], query=without_none(after=after, limit=limit)
        )

    async def get(self, batch_id: str) -> Batch:
        """Return one batch."""
        return await self._transport.request("GET", at("v1", "batches", by_id(batch_id, "a batch")), Batch)

    async def cancel(self, batch_id: str) -> Batch:
        """Cancel a batch. Answers to lines that were processed before the cancellation are in the output file."""
        return await self._transport.request(
            "POST", at("v1", "batches", by_id(batch_id, "a batch"), "cancel"), Batch
        )
