"""Files attached to a question, for models that only accept text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.principal import Principal


class ReadsFiles(Protocol):
    """Reads the files attached to messages: `portico_server.knowledge.attachments.AttachmentReader`."""

    async def as_text(
        self,
        messages: Iterable[Mapping[str, Any]],
        caller: Principal,
        *,
        context_length: int | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Return the messages with a text in place of each ``file`` part, to fit a context of ``context_length``
        tokens.

        Raises `InvalidRequest` for a file that cannot be read or does not fit, `NotFound` for an unknown id.
        """
