"""``/api/sessions``: the conversations of agents. Another key's sessions do not exist for a caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from portico.schemas.ratings import Rating
from portico.schemas.sessions import Session, SessionMessage
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import Listed, ListedPart, shaped
from portico_server.apps.agent.message import message_of
from portico_server.apps.agent.sessions import AnswerRating, RatingValue
from portico_server.core.dataclass import dataclass
from portico_server.db.sessions import RATING, RatedRow

router = new_router(prefix="/api/sessions", tags=["Sessions"])

MAX_CORRECTION_CHARS: Final = 100_000

MessageNumber = Annotated[int, Path(ge=1, le=2**31 - 1)]


class NewSession(BaseModel, extra="forbid"):
    """A session to open. Without a ``name`` it is called by its id; one that is there already is left as it is."""

    app: str = Field(min_length=1, max_length=256)
    name: str = ""
    title: str = Field("", max_length=512)
    metadata: dict[str, Any] = Field(default_factory=dict)


class SessionChange(BaseModel, extra="forbid"):
    """What is left out stays as it is."""

    title: str | None = Field(None, max_length=512)
    metadata: dict[str, Any] | None = None


class SessionFork(BaseModel, extra="forbid"):
    """The name of the copy; called by its id without one."""

    name: str = ""


class AddedMessages(BaseModel, extra="forbid"):
    """Messages for the memory of the agent at the path ``agent``, empty for the root: texts, parts or messages."""

    messages: list[Any] = Field(min_length=1, max_length=1000)
    agent: str = Field("", max_length=512)


class SessionMessages(BaseModel):
    """In the order in which they were said. If ``has_more``, ask again with ``after``, the last ``seq``."""

    data: list[SessionMessage]
    has_more: bool


@dataclass(frozen=True, slots=True)
class NewRating(AnswerRating):
    """What you think of an answer. ``correction`` is the answer that you wanted: for ``corrected``, and only then."""

    __pydantic_config__ = ConfigDict(extra="forbid")
    correction: Annotated[str, Field(max_length=MAX_CORRECTION_CHARS)] = ""
    note: Annotated[str, Field(max_length=2000)] = ""


class RatedMessage(BaseModel):
    """A message as a model takes it."""

    role: Literal["system", "user", "assistant"]
    content: str | list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class RatedAnswer(Rating):
    """A rated answer: message number ``message`` of ``session``, by ``model``; ``rated_at`` in seconds since 1970.

    ``messages`` is what was said before, at most 200 messages, as a model takes it; ``answer`` what the model said.
    """

    value: RatingValue
    messages: tuple[RatedMessage, ...]  # type: ignore[assignment]  # the SDK has them as JSON objects

    @classmethod
    def of(cls, row: RatedRow) -> RatedAnswer:
        """With the conversation until then. A client may have put anything into ``extra_info``."""
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
    """In the order in which the answers were given. If ``has_more``, ask again with ``after``, the last id."""

    has_more: bool


@router.get("")
async def list_sessions(
    services: TheServices,
    caller: Caller,
    app: str | None = None,
    name: str | None = None,
    search: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> ListedPart[Session]:
    """The caller's sessions, the one used last first; of one ``app``, of one ``name``, or those in which ``search`` was
    said. If ``has_more``, ask again with ``after``, the last id: one that is used meanwhile moves to the beginning.
    """
    page = await services.agents.sessions.list(
        caller, app=app, name=name, search=search, after=after, limit=limit
    )
    return ListedPart(data=[shaped(Session, row) for row in page.data], has_more=page.has_more)


@router.post("")
async def open_session(given: NewSession, services: TheServices, caller: Caller) -> Session:
    """The session of this name, made if there is none."""
    row = await services.agents.sessions.open(
        given.app, given.name, caller, title=given.title, metadata=given.metadata
    )
    return shaped(Session, row)


@router.get("/{session_id}")
async def retrieve_session(session_id: str, services: TheServices, caller: Caller) -> Session:
    """One session."""
    return shaped(Session, await services.agents.sessions.get(session_id, caller))


@router.patch("/{session_id}")
async def change_session(
    session_id: str, given: SessionChange, services: TheServices, caller: Caller
) -> Session:
    """Change its title or its metadata."""
    row = await services.agents.sessions.describe(
        session_id, caller, title=given.title, metadata=given.metadata
    )
    return shaped(Session, row)


@router.delete("/{session_id}", status_code=204, response_class=Response)
async def remove_session(session_id: str, services: TheServices, caller: Caller) -> None:
    """Remove a session with all that was said in it."""
    await services.agents.sessions.remove(session_id, caller)


@router.get("/{session_id}/messages")
async def list_session_messages(
    session_id: str,
    services: TheServices,
    caller: Caller,
    agent: str | None = None,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> SessionMessages:
    """What was said, in order; in the memory of one ``agent`` (its path, empty for the root) if that is given.

    A page ends at ``limit``, or before the message with which it would have more than 8,000,000 characters.
    """
    page = await services.agents.sessions.messages(session_id, caller, agent=agent, after=after, limit=limit)
    return SessionMessages(
        data=[shaped(SessionMessage, row, run=row.run_id) for row in page.data], has_more=page.has_more
    )


@router.post("/{session_id}/messages")
async def add_session_messages(
    session_id: str, given: AddedMessages, services: TheServices, caller: Caller
) -> Session:
    """Put messages behind what was said, such as what an agent that works at a client has heard and answered."""
    messages = [message_of(item) for item in given.messages]
    return shaped(
        Session, await services.agents.sessions.add(session_id, caller, messages, agent=given.agent)
    )


@router.put("/{session_id}/messages/{seq}/rating")
async def rate_answer(
    session_id: str, seq: MessageNumber, given: NewRating, services: TheServices, caller: Caller
) -> SessionMessage:
    """Rate an answer, by the number of its message; a rating that it has is replaced."""
    row = await services.agents.sessions.rate(session_id, seq, caller, given)
    return shaped(SessionMessage, row, run=row.run_id)


@router.delete("/{session_id}/messages/{seq}/rating", status_code=204, response_class=Response)
async def remove_rating(session_id: str, seq: MessageNumber, services: TheServices, caller: Caller) -> None:
    """Take back what was thought of an answer."""
    await services.agents.sessions.rate(session_id, seq, caller, None)


rating_router = new_router(prefix="/api/ratings", tags=["Sessions"])


@rating_router.get("")
async def list_ratings(
    services: TheServices,
    caller: Caller,
    app: Annotated[str | None, Query(max_length=256)] = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    value: RatingValue | None = None,
    after: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Ratings:
    """The caller's rated answers with what was said before them: what to train on and to evaluate with."""
    page = await services.agents.sessions.ratings(
        caller, app=app, model=model, value=value, after=after, limit=limit
    )
    return Ratings(data=[RatedAnswer.of(row) for row in page.data], has_more=page.has_more)


@router.post("/{session_id}/reset")
async def reset_session(session_id: str, services: TheServices, caller: Caller) -> Session:
    """Forget all that was said, by every agent of the tree."""
    return shaped(Session, await services.agents.sessions.reset(session_id, caller))


@router.post("/{session_id}/fork")
async def fork_session(session_id: str, given: SessionFork, services: TheServices, caller: Caller) -> Session:
    """A copy, which goes its own way from here."""
    return shaped(Session, await services.agents.sessions.fork(session_id, caller, given.name))


@router.get("/{session_id}/state")
async def session_state(session_id: str, services: TheServices, caller: Caller) -> dict[str, Any]:
    """The state dict: ``{"portico_session": 1, "memory": [...], "writer.memory": [...], "writer.state": {...}}``."""
    return await services.agents.sessions.state_dict(session_id, caller)


@router.put("/{session_id}/state")
async def load_session_state(
    session_id: str, given: Mapping[str, Any], services: TheServices, caller: Caller
) -> Session:
    """Put a state dict in the place of all that was said; nothing changes if it cannot be read."""
    return shaped(Session, await services.agents.sessions.load_state_dict(session_id, caller, given))
