# Made from portico/_async by scripts/twin: change it there.
"""Batches in `portico.Client`. What each call sends and reads is in `portico._calls.batches`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from portico._calls.batches import (
    batch_cancel,
    batch_check,
    batch_create,
    batch_get,
    batches_list,
    merged,
    written,
)
from portico._calls.knowledge import file_add, file_content, file_remove
from portico._sync.group import Group
from portico.batches import Batch, BatchResult, CheckedBatch
from portico.errors import ConnectionLost, DeadlineExceeded
from portico.values import Page

PURPOSE = "batch"

CHAT = "/v1/chat/completions"

FIRST, LONGEST = 0.1, 2.0
"""Seconds between two looks at a batch: the first such time, which grows, and the longest."""

ATTEMPTS = 5
"""Connections in a row that may be lost."""

Requests: TypeAlias = str | Path | Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]]
"""The id of an uploaded file, a file here, bodies by their custom_id, or bodies in order."""


class Batches(Group):
    """Many requests in one file, answered while nobody waits."""

    def create(
        self,
        requests: Requests,
        endpoint: str = CHAT,
        *,
        metadata: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> Batch:
        """Begin a batch. A ``Path`` is uploaded, a ``str`` is the id of an uploaded file; anything else is bodies of
        requests for ``endpoint``. ``keep``: seconds after which its results are removed.
        """
        file_id, _uploaded = self._file(requests, endpoint)
        return self._transport.send(batch_create(file_id, endpoint, metadata, keep))

    def check(self, requests: Requests, endpoint: str = CHAT) -> CheckedBatch:
        """Check each line as `create` would, and ask nothing; what is uploaded for it is removed again."""
        file_id, uploaded = self._file(requests, endpoint)
        try:
            return self._transport.send(batch_check(file_id, endpoint))
        finally:
            if uploaded:
                self._transport.send(file_remove(file_id))

    def _file(self, requests: Requests, endpoint: str) -> tuple[str, bool]:
        """The id of the file, and whether it was uploaded for this."""
        if isinstance(requests, str):
            return requests, False
        if isinstance(requests, Path):
            file = self._transport.send(file_add(requests, None, PURPOSE))
        else:
            file = self._transport.send(file_add(written(requests, endpoint), "requests.jsonl", PURPOSE))
        return file.id, True

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Batch]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return self._transport.send(batches_list(after, limit))

    def get(self, batch_id: str) -> Batch:
        """One by id. Raises `NotFound`."""
        return self._transport.send(batch_get(batch_id))

    def cancel(self, batch_id: str) -> Batch:
        """Ask nothing more; what is answered by then is in its results. Raises `Conflict` if it has ended."""
        return self._transport.send(batch_cancel(batch_id))

    def wait(
        self,
        batch_id: str,
        *,
        timeout: float | None = None,
        progress: Callable[[Batch], object] | None = None,
    ) -> Batch:
        """The batch once it has ended, through lost connections. ``progress`` is called with it now and then.

        Raises `DeadlineExceeded` after ``timeout`` seconds; the batch goes on then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause, lost = FIRST, 0
        while True:
            try:
                batch = self.get(batch_id)
            except ConnectionLost:
                lost += 1
                if lost == ATTEMPTS:
                    raise
            else:
                lost = 0
                if progress is not None:
                    progress(batch)
                if batch.ended:
                    return batch
            if end is not None and time.monotonic() + pause > end:
                raise DeadlineExceeded(
                    f"The batch '{batch_id}' has not ended within {timeout:g} s; it goes on."
                )
            self._transport.rest(pause)
            pause = min(LONGEST, pause * 1.5)

    def results(self, batch_id: str) -> Iterator[BatchResult]:
        """What was answered, and what failed, in the order of the input. Nothing while it has not ended."""
        batch = self.get(batch_id)
        files = [
            self._transport.send(file_content(file_id))
            for file_id in (batch.output_file_id, batch.error_file_id)
            if file_id
        ]
        for result in merged(*files):
            yield result
