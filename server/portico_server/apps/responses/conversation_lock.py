"""One response at a time in a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portico_server.apps.responses.work import PreparedResponse
from portico_server.core.errors import Conflict, NotFound
from portico_server.db.responses import SaveOutcome


class ConversationLocks:
    """The conversations in which this daemon makes a response. Another daemon's are found when theirs are kept."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    @contextmanager
    def alone(self, response: PreparedResponse) -> Iterator[None]:
        """Hold the conversation of a request, if it has one. Raises `Conflict` if it is held."""
        name = response.ask.conversation if response.after is not None else ""
        self.require_free(response)
        if name:
            self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name)

    def require_free(self, response: PreparedResponse) -> None:
        """Raise `Conflict` if the conversation of a request is held."""
        name = response.ask.conversation
        if name in self._names and response.after is not None:
            raise Conflict(
                f"Another response is being made in the conversation '{name}'. Try again when it is there.",
                code="conversation_locked",
                param="conversation",
            )


def require_kept(save_outcome: SaveOutcome, name: str) -> None:
    """Raise what became of the conversation ``name``, if a response could not be put at the end."""
    if save_outcome == "gone":
        raise NotFound(
            f"The conversation '{name}' was removed while the response was made; it is not kept.",
            code="conversation_not_found",
            param="conversation",
        )
    if save_outcome == "changed":
        raise Conflict(
            f"The conversation '{name}' was changed while the response was made; it is not kept. Ask again.",
            code="conversation_changed",
            param="conversation",
        )
