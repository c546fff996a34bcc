"""Public links: anyone with such a link can read a copy of a session, until the link expires or is removed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final, TypeAlias

from portico.schemas.sessions import PublicMessage, PublicPassage
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.db import public_links, sessions
from portico_server.db.database import Database
from portico_server.db.public_links import PublicLinkRow, PublicSessionRow
from portico_server.db.rows import json_bytes
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.agents.sessions import AgentSessions
from portico_server.runs.quotas import StorageQuota

MAX_LINKS: Final = 100
"""Maximum number of valid links of a key."""

MAX_MESSAGES: Final = 1_000
MAX_BYTES: Final = 2_000_000
"""Maximum size of a published session, because callers without a key can read it any number of times."""

SECRET_BYTES: Final = 32
DAY_S: Final = 24 * 3600

MayRead: TypeAlias = Callable[[str, str, Principal], Awaitable[bool]]
"""Returns whether a caller may read a file, given by its store and its id."""


class PublicLinks:
    """The public links of all sessions. The secret of a link is not stored, only its hash."""

    def __init__(
        self, database: Database, owned_sessions: AgentSessions, quota: StorageQuota, may_read: MayRead
    ) -> None:
        self._database = database
        self._sessions = owned_sessions
        self._quota = quota
        self._may_read = may_read

    async def publish(self, session_id: str, caller: Principal, days: int) -> tuple[PublicLinkRow, str]:
        """Copy a session's questions and answers, and return the link to the copy, with its secret.

        Tool calls, reasoning and attachments are left out, as are the texts of passages that the caller may not read.
        """
        session = await self._sessions.get(session_id, caller)
        page = await self._database.read(sessions.messages, session_id, agent="", limit=MAX_MESSAGES)
        agent_messages = [message_of(row.message) for row in page.data]
        conversation = [message for message in agent_messages if message.type is None]
        if not conversation:
            raise InvalidRequest(
                "The session has no messages to publish yet.", code="session_empty", param="session_id"
            )
        messages = [asdict(message) for message in await self._copied(conversation, caller)]
        if page.has_more or json_bytes(messages) > MAX_BYTES:
            raise InvalidRequest(
                f"The session has more than {MAX_MESSAGES:,} messages or {MAX_BYTES:,} bytes, too many for a "
                "public link. Export it as a file instead.",
                code="session_too_large",
                param="session_id",
            )
        await self._quota.admit(self._database, caller.id, json_bytes(messages))
        secret, created_at = secrets.token_urlsafe(SECRET_BYTES), time.time()
        row = PublicSessionRow(
            id=new_id("link_"),
            session_id=session.id,
            owner=caller.id,
            created_at=created_at,
            expires_at=created_at + days * DAY_S,
            title=session.title or session.name,
            messages=messages,
        )
        if not await self._database.write(public_links.add, row, _hash_of(secret), MAX_LINKS):
            raise InvalidRequest(
                f"This key has {MAX_LINKS} public links, the maximum. Remove one of them first.",
                code="too_many_links",
            )
        return row, secret

    async def list(self, session_id: str, caller: Principal) -> Sequence[PublicLinkRow]:
        """Return the valid links of a session, oldest first."""
        await self._sessions.get(session_id, caller)
        return await self._database.read(public_links.of_session, session_id)

    async def remove(self, session_id: str, link_id: str, caller: Principal) -> None:
        """Delete a link with its copy, which nobody can read from then on."""
        await self._sessions.get(session_id, caller)
        if not await self._database.write(public_links.remove, session_id, link_id):
            raise NotFound(
                f"The session has no public link '{link_id[:80]}'.", code="link_not_found", param="link_id"
            )

    async def open(self, secret: str) -> PublicSessionRow:
        """Return the copy that a link shows. Raise `NotFound` if no valid link has this secret."""
        row = await self._database.read(public_links.by_hash, _hash_of(secret))
        if row is None:
            raise no_link()
        return row

    async def _copied(
        self, conversation: Sequence[AgentMessage], caller: Principal
    ) -> Sequence[PublicMessage]:
        citations = [[] if message.sender == "user" else _passages_of(message) for message in conversation]
        files = {(passage["store"], passage["file_id"]) for passages in citations for passage in passages}
        readable = {file for file in files if await self._may_read(*file, caller)}
        return [
            PublicMessage(
                role="user" if message.sender == "user" else "assistant",
                text=message.text,
                attachments=_count_attachments(message),
                passages=tuple(
                    PublicPassage(
                        rank=passage["rank"],
                        filename=passage["filename"],
                        text=passage["text"] if (passage["store"], passage["file_id"]) in readable else "",
                    )
                    for passage in passages
                ),
            )
            for message, passages in zip(conversation, citations, strict=True)
        ]


def no_link() -> NotFound:
    """Return the error for a link that cannot be opened. It does not reveal whether the link ever existed."""
    return NotFound(
        "This link does not exist, has expired or was removed. Ask its sender for a new link.",
        code="link_not_found",
    )


def _hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _count_attachments(message: AgentMessage) -> int:
    if isinstance(message.content, str):
        return 0
    return sum(part.get("type") != "text" for part in message.content)


_PASSAGE_FIELDS: Final = {"rank": int, "filename": str, "text": str, "store": str, "file_id": str}


def _passages_of(message: AgentMessage) -> Sequence[Mapping[str, Any]]:
    """Return the complete passages in the ``extra_info`` of an answer, which may contain anything, because clients
    write it.
    """
    passages = (message.extra_info or {}).get("passages")
    if not isinstance(passages, list):
        return []
    return [
        passage
        for passage in passages
        if isinstance(passage, Mapping)
        and all(isinstance(passage.get(name), kind) for name, kind in _PASSAGE_FIELDS.items())
    ]
