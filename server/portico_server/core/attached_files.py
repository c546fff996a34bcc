"""Files attached to messages, for models that accept only text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.principal import Principal


class ReadsFiles(Protocol):
    """Reads the files attached to messages. `portico_server.features.stores` implements it."""

    async def as_text(
        self,
        messages: Iterable[Mapping[str, Any]],
        caller: Principal,
        *,
        context_length: int | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """Return the messages with each ``file`` part replaced by a text, so that they fit a context of
        ``context_length`` tokens.

        Raises `InvalidRequest` for a file that cannot be read or does not fit, and `NotFound` for an unknown id.
        """
