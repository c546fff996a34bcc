"""Files that come with a question, for what reads text alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.principal import Principal


class ReadsFiles(Protocol):
    """Reads what messages bring along: `portico_server.knowledge.attachments.AttachmentReader`."""

    async def as_text(
        self,
        messages: Iterable[Mapping[str, Any]],
        caller: Principal,
        *,
        context_length: int | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """The messages with a text in place of each ``file`` part, for a context of so many tokens.

        Raises `InvalidRequest` for a file that cannot be read or does not fit, `NotFound` for an unknown id.
        """
