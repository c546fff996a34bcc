# Generated from portico._async by scripts/sdk: change it there.
"""Batches: many requests in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from portico._request import without_none
from portico._sync.calls import batches as calls_batches
from portico._sync.knowledge import Files
from portico.batches import requests_file, results_of
from portico.schemas.batches import Batch, BatchResult, CheckedBatch

PURPOSE = "batch"

CHAT = "/v1/chat/completions"

WINDOW = "24h"

Requests: TypeAlias = str | Path | Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]]
"""The id of an uploaded file, a local file, request bodies keyed by custom_id, or request bodies in order."""


class Batches(calls_batches.Batches):
    """Many requests in a file, processed in the background."""

    def create(
        self,
        requests: Requests,
        endpoint: str = CHAT,
        *,
        metadata: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> Batch:
        """Start a batch.

        A ``Path`` is uploaded, a ``str`` is the id of an uploaded file, and anything else is request bodies for
        ``endpoint``. ``keep``: seconds after which the results are removed.
        """
        file_id, _is_uploaded = self._file(requests, endpoint)
        body = without_none(
            input_file_id=file_id,
            endpoint=endpoint,
            completion_window=WINDOW,
            metadata=dict(metadata) if metadata else None,
            output_expires_after=None if keep is None else {"anchor": "created_at", "seconds": keep},
        )
        return self._transport.request("POST", "/v1/batches", Batch, json=body)

    def check(self, requests: Requests, endpoint: str = CHAT) -> CheckedBatch:
        """Check each line as `create` does, without calling a model. If a file is uploaded for the check, it is
        removed afterwards.
        """
        file_id, is_uploaded = self._file(requests, endpoint)
        body = {"input_file_id": file_id, "endpoint": endpoint}
        try:
            path = "/api/batches/check"
            return self._transport.request("POST", path, CheckedBatch, json=body, slow=True)
        finally:
            if is_uploaded:
                Files(self._transport).remove(file_id)

    def _file(self, requests: Requests, endpoint: str) -> tuple[str, bool]:
        """Return the id of the file, and whether it was uploaded for this call."""
        if isinstance(requests, str):
            return requests, False
        if isinstance(requests, Path):
            file = Files(self._transport).add(requests, purpose=PURPOSE)
        else:
            data = requests_file(requests, endpoint)
            file = Files(self._transport).add(data, filename="requests.jsonl", purpose=PURPOSE)
        return file.id, True

    def wait(
        self,
        batch_id: str,
        *,
        timeout: float | None = None,
        progress: Callable[[Batch], object] | None = None,
    ) -> Batch:
        """Wait until the batch has ended, and return it. If the connection is lost, the client reconnects.

        ``progress`` is called with the batch from time to time. Raises `DeadlineExceeded` after ``timeout`` seconds;
        the batch continues.
        """
        batch: Batch = self._wait(
            lambda: self.get(batch_id),
            lambda job: bool(job.ended),
            f"The batch '{batch_id}'",
            timeout,
            progress,
        )
        return batch

    def results(self, batch_id: str) -> Iterator[BatchResult]:
        """Iterate over the results and errors in the order of the input. Yields nothing before the batch has ended."""
        batch = self.get(batch_id)
        files = [
            Files(self._transport).content(file_id)
            for file_id in (batch.output_file_id, batch.error_file_id)
            if file_id
        ]
        for result in results_of(*files):
            yield result
