# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.batches`."""

from __future__ import annotations

from portico._read import Page
from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.batches import Batch


class Batches(Group):
    """Many requests in a file, processed in the background."""

    def list(self, *, after: str | None = None, limit: int | None = None) -> Page[Batch]:
        """Return the caller's batches, newest first.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET", "/v1/batches", Page[Batch], query=without_none(after=after, limit=limit)
        )

    def get(self, batch_id: str) -> Batch:
        """Return one batch."""
        return self._transport.request("GET", at("v1", "batches", by_id(batch_id, "a batch")), Batch)

    def cancel(self, batch_id: str) -> Batch:
        """Cancel a batch. Answers to lines that were processed before the cancellation are in the output file."""
        return self._transport.request(
            "POST", at("v1", "batches", by_id(batch_id, "a batch"), "cancel"), Batch
        )
