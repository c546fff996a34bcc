"""Locks that allow only one response at a time in a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from portico_server.core.errors import Conflict, NotFound
from portico_server.db.responses import SaveOutcome
from portico_server.features.responses.work import PreparedResponse


class ConversationLocks:
    """The conversations in which this daemon is making a response. Conflicts with other daemons are detected when a
    response is saved.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    @contextmanager
    def alone(self, response: PreparedResponse) -> Iterator[None]:
        """Lock the conversation of a request, if the request names one. Raises `Conflict` if it is already locked."""
        name = response.ask.conversation if response.after is not None else ""
        self.require_free(response)
        if name:
            self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name)

    def require_free(self, response: PreparedResponse) -> None:
        """Raise `Conflict` if the conversation of a request is locked."""
        name = response.ask.conversation
        if name in self._names and response.after is not None:
            raise Conflict(
                f"Another response is in progress in the conversation '{name}'. Try again when it has "
                "finished.",
                code="conversation_locked",
                param="conversation",
            )


def require_kept(save_outcome: SaveOutcome, name: str) -> None:
    """Raise `NotFound` or `Conflict` if a response could not be appended to the conversation ``name``."""
    if save_outcome == "gone":
        raise NotFound(
            f"The conversation '{name}' was deleted during the request; the response was not stored.",
            code="conversation_not_found",
            param="conversation",
        )
    if save_outcome == "changed":
        raise Conflict(
            f"The conversation '{name}' was changed during the request; the response was not stored. Send "
            "the request again.",
            code="conversation_changed",
            param="conversation",
        )
