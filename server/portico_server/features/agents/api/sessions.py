"""``/api/sessions``: the conversations of agents. A caller sees only its own sessions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from portico.schemas.ratings import Rating
from portico.schemas.sessions import NewPublicLink, PublicLink, PublicSession, Session, SessionMessage
from portico_server.api.endpoint import Caller, TheAuth, new_router
from portico_server.api.shapes import Listed, ListedPart, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden
from portico_server.db.sessions import RATING, RatedRow
from portico_server.features.agents.api.agent_service import TheAgents, ThePublicLinks
from portico_server.features.agents.message import message_of
from portico_server.features.agents.public_links import no_link
from portico_server.features.agents.sessions import AnswerRating, RatingValue

router = new_router(prefix="/api/sessions", tags=["Sessions"])

MAX_CORRECTION_CHARS: Final = 100_000

MessageNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]


class NewSession(BaseModel, extra="forbid"):
    """A session to open. Without a ``name``, the session's id becomes its name. If the session exists, it stays
    unchanged.
    """

    app: str = Field(min_length=1, max_length=256)
    name: str = ""
    title: str = Field("", max_length=512)
    metadata: dict[str, Any] = Field(default_factory=dict)


class SessionChange(BaseModel, extra="forbid"):
    """Changes to a session. Omitted fields stay unchanged."""

    title: str | None = Field(None, max_length=512)
    metadata: dict[str, Any] | None = None


class SessionFork(BaseModel, extra="forbid"):
    """The name of the copied session; by default the copy's id."""

    name: str = ""


class LinkRequest(BaseModel, extra="forbid"):
    """The link expires after this number of ``days``."""

    days: int = Field(30, ge=1, le=365)


class AddedMessages(BaseModel, extra="forbid"):
    """Messages for the memory of the agent at the path ``agent``, which is empty for the root agent: texts, parts or
    messages.
    """

    messages: list[Any] = Field(min_length=1, max_length=1000)
    agent: str = Field("", max_length=512)


class SessionMessages(BaseModel):
    """The messages of a session, in order. If ``has_more`` is true, pass the last ``seq`` as ``after`` for the
    next page.
    """

    data: list[SessionMessage]
    has_more: bool


@dataclass(frozen=True, slots=True)
class NewRating(AnswerRating):
    """Your rating of an answer. ``correction`` is the answer that you wanted; it is required for the rating
    ``corrected`` and not allowed for other ratings.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    correction: Annotated[str, Field(max_length=MAX_CORRECTION_CHARS)] = ""
    note: Annotated[str, Field(max_length=2000)] = ""


class RatedMessage(BaseModel):
    """A message in the format of a chat model."""

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RatedAnswer(Rating):
    """A rated answer: message number ``message`` of ``session``, written by ``model``; ``rated_at`` is in seconds
    since 1970.

    ``messages`` is the conversation before the answer, at most 200 messages in the format of a chat model; ``answer``
    is the model's answer.
    """

    value: RatingValue
    messages: tuple[RatedMessage, ...]  # type: ignore[assignment]  # the SDK has them as JSON objects

    @classmethod
    def of(cls, row: RatedRow) -> RatedAnswer:
        """Convert a row, with the conversation up to the answer. ``extra_info`` may contain anything, because clients
        write it.
        """
        message = message_of(row.message.message)
        about = message.extra_info or {}
        rating = about[RATING]
        system = about.get("instructions")
        agent_messages = [message_of(message_row.message) for message_row in row.before]
        rated_messages = (
            [RatedMessage(role="system", content=system)] if isinstance(system, str) and system else []
        )
        rated_messages += [
            RatedMessage(
                role="user" if agent_message.sender == "user" else "assistant", content=agent_message.content
            )
            for agent_message in agent_messages
            if agent_message.type is None
        ]
        moment = rating.get("rated_at")
        return cls(
            id=f"{row.session.id}:{row.message.seq}",
            session=row.session.id,
            message=row.message.seq,
            app=row.session.app,
            model=message.sender,
            value=rating["value"],
            correction=str(rating.get("correction") or ""),
            note=str(rating.get("note") or ""),
            rated_at=moment if isinstance(moment, float) else message.created_at,
            messages=tuple(rated_messages),
            answer=message.content if isinstance(message.content, str) else tuple(message.content),
        )


class Ratings(Listed[RatedAnswer]):
    """Ratings in the order of their answers. If ``has_more`` is true, pass the last id as ``after`` to get the
    next page.
    """

    has_more: bool


@router.get("")
async def list_sessions(
    agents: TheAgents,
    caller: Caller,
    app: str | None = None,
    name: str | None = None,
    search: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> ListedPart[Session]:
    """List the caller's sessions, most recently used first. ``app``, ``name`` and ``search`` limit the list to
    sessions of one app, with one name, or containing a text.

    If ``has_more`` is true, pass the last id as ``after`` to get the next page. A session that is used in the meantime
    moves to the beginning of the list.
    """
    page = await agents.sessions.list(caller, app=app, name=name, search=search, after=after, limit=limit)
    return ListedPart(data=[shaped(Session, row) for row in page.data], has_more=page.has_more)


@router.post("")
async def open_session(body: NewSession, agents: TheAgents, caller: Caller) -> Session:
    """Return the session with this name, creating it if it does not exist."""
    row = await agents.sessions.open(body.app, body.name, caller, title=body.title, metadata=body.metadata)
    return shaped(Session, row)


@router.get("/{session_id}")
async def retrieve_session(session_id: str, agents: TheAgents, caller: Caller) -> Session:
    """Return a session."""
    return shaped(Session, await agents.sessions.get(session_id, caller))


@router.patch("/{session_id}")
async def change_session(session_id: str, body: SessionChange, agents: TheAgents, caller: Caller) -> Session:
    """Change the title or metadata of a session."""
    row = await agents.sessions.describe(session_id, caller, title=body.title, metadata=body.metadata)
    return shaped(Session, row)


@router.delete("/{session_id}", status_code=204, response_class=Response)
async def remove_session(session_id: str, agents: TheAgents, caller: Caller) -> None:
    """Delete a session and all its messages."""
    await agents.sessions.remove(session_id, caller)


@router.get("/{session_id}/messages")
async def list_session_messages(
    session_id: str,
    agents: TheAgents,
    caller: Caller,
    agent: str | None = None,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> SessionMessages:
    """List messages in order, optionally only messages in the memory of one ``agent`` (the agent's path, empty for the
    root agent).

    A page ends at ``limit`` messages, or before the message with which it would exceed 8,000,000 characters.
    """
    page = await agents.sessions.messages(session_id, caller, agent=agent, after=after, limit=limit)
    return SessionMessages(
        data=[shaped(SessionMessage, row, run=row.run_id) for row in page.data], has_more=page.has_more
    )


@router.post("/{session_id}/messages")
async def add_session_messages(
    session_id: str, body: AddedMessages, agents: TheAgents, caller: Caller
) -> Session:
    """Append messages to a session, such as messages of an agent that a client runs."""
    messages = [message_of(item) for item in body.messages]
    return shaped(Session, await agents.sessions.add(session_id, caller, messages, agent=body.agent))


@router.put("/{session_id}/messages/{seq}/rating")
async def rate_answer(
    session_id: str, seq: MessageNumber, body: NewRating, agents: TheAgents, caller: Caller
) -> SessionMessage:
    """Rate an answer, identified by its message number. A new rating replaces the existing rating."""
    row = await agents.sessions.rate(session_id, seq, caller, body)
    return shaped(SessionMessage, row, run=row.run_id)


@router.delete("/{session_id}/messages/{seq}/rating", status_code=204, response_class=Response)
async def remove_rating(session_id: str, seq: MessageNumber, agents: TheAgents, caller: Caller) -> None:
    """Remove the rating of an answer."""
    await agents.sessions.rate(session_id, seq, caller, None)


rating_router = new_router(prefix="/api/ratings", tags=["Sessions"])


@rating_router.get("")
async def list_ratings(
    agents: TheAgents,
    caller: Caller,
    app: Annotated[str | None, Query(max_length=256)] = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    value: RatingValue | None = None,
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Ratings:
    """List the caller's rated answers, each with the conversation before it, for training and evaluation."""
    page = await agents.sessions.ratings(caller, app=app, model=model, value=value, after=after, limit=limit)
    return Ratings(data=[RatedAnswer.of(row) for row in page.data], has_more=page.has_more)


@router.post("/{session_id}/reset")
async def reset_session(session_id: str, agents: TheAgents, caller: Caller) -> Session:
    """Delete all messages of a session, for all agents in its tree."""
    return shaped(Session, await agents.sessions.reset(session_id, caller))


@router.post("/{session_id}/fork")
async def fork_session(session_id: str, body: SessionFork, agents: TheAgents, caller: Caller) -> Session:
    """Copy a session. The copy is independent from then on."""
    return shaped(Session, await agents.sessions.fork(session_id, caller, body.name))


@router.get("/{session_id}/state")
async def session_state(session_id: str, agents: TheAgents, caller: Caller) -> dict[str, Any]:
    """Return the state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...], "writer.state":
    {...}}``.
    """
    return await agents.sessions.state_dict(session_id, caller)


@router.put("/{session_id}/state")
async def load_session_state(
    session_id: str, body: Mapping[str, Any], agents: TheAgents, caller: Caller
) -> Session:
    """Replace all messages of a session with those in a state dict. If the dict cannot be parsed, nothing changes."""
    return shaped(Session, await agents.sessions.load_state_dict(session_id, caller, body))


@router.post("/{session_id}/public-links")
async def publish_session(
    session_id: str, body: LinkRequest, links: ThePublicLinks, caller: Caller
) -> NewPublicLink:
    """Create a link with which anyone can read a copy of the session, without a key.

    The copy contains the questions and answers up to now, without attachments, tool calls and reasoning. Passages that
    the caller may not read have no text. The link ends when it expires, or when the link, the session or the caller's
    key is removed.
    """
    row, secret = await links.publish(session_id, caller, body.days)
    return shaped(NewPublicLink, row, session=row.session_id, path=f"/#/public/{secret}")


@router.get("/{session_id}/public-links")
async def list_public_links(session_id: str, links: ThePublicLinks, caller: Caller) -> Listed[PublicLink]:
    """List the valid public links of a session, oldest first."""
    link_rows = await links.list(session_id, caller)
    return Listed(data=[shaped(PublicLink, row, session=row.session_id) for row in link_rows])


@router.delete("/{session_id}/public-links/{link_id}", status_code=204, response_class=Response)
async def unpublish_session(session_id: str, link_id: str, links: ThePublicLinks, caller: Caller) -> None:
    """Remove a public link of a session."""
    await links.remove(session_id, link_id, caller)


public_router = new_router(prefix="/api/public-sessions", tags=["Sessions"])


@public_router.get("/{secret}", openapi_extra={"security": []})
async def read_public_session(
    secret: Annotated[str, Path(max_length=100)], response: Response, links: ThePublicLinks, auth: TheAuth
) -> PublicSession:
    """Return the copy of a session that a public link shows. No key is needed."""
    row = await links.open(secret)
    try:
        auth.keys.principal(row.owner)
    except Forbidden:
        raise no_link() from None
    response.headers.update(
        {"Cache-Control": "no-store", "X-Robots-Tag": "noindex, nofollow", "Referrer-Policy": "no-referrer"}
    )
    return shaped(PublicSession, row)
