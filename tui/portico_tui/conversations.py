"""Stored conversations: sessions in the daemon, and asking a question in a session.

The daemon stores each turn of an agent in the session. For other apps and models, this module stores the messages once
the answer is complete.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

from portico.client import AsyncClient
from portico.errors import NotFound
from portico.schemas.apps import App
from portico.schemas.sessions import Session
from portico.wire import Cited, Delta, Event, Finished, Passage, Usage, passage_from_json

MAX_LISTED_ITEMS: Final = 200
"""Maximum number of conversations in the list."""

MAX_TITLE_CHARS: Final = 60
"""Maximum length of a title created from the first question, in characters."""


@dataclass(frozen=True, slots=True)
class Partner:
    """A conversation partner: an app, which answers with passages, or a model, which answers from its own knowledge."""

    name: str
    app: bool


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message in a conversation: a message from the ``user``, or an answer with the passages on which it is based."""

    role: str
    content: str
    passages: tuple[Passage, ...] = ()

    @property
    def message(self) -> dict[str, str]:
        """The message as a model expects it."""
        return {"role": self.role, "content": self.content}


History: TypeAlias = Sequence[ChatMessage]


class Conversations:
    """The sessions of the key's owner, and their messages. Every call can raise a `DaemonError`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def recent(self, search: str = "") -> Sequence[Session]:
        """Return sessions, most recently used first. If ``search`` is set, return only those with this text in their
        title or messages.
        """
        return await self._client.sessions.list(search=search, limit=MAX_LISTED_ITEMS)

    async def messages(self, session: Session) -> list[ChatMessage]:
        """Return the questions and answers of a session, oldest first, without the intermediate steps of agents."""
        rows = await self._client.sessions.messages(session.id, "", limit=None)
        return [_read_message(row.message) for row in rows if row.message.get("type") is None]

    async def look(self, session: Session) -> Session | None:
        """Return the current state of a session, or ``None`` if it no longer exists."""
        try:
            return await self._client.sessions.get(session.id)
        except NotFound:
            return None

    async def rename(self, session: Session, title: str) -> Session:
        """Set a session's title."""
        return await self._client.sessions.change(session.id, title=title)

    async def fork(self, session: Session) -> Session:
        """Create an independent copy."""
        new_session = await self._client.sessions.fork(session.id)
        return await self._client.sessions.change(new_session.id, title=f"{title(session)} (copy)")

    async def remove(self, session: Session) -> None:
        """Delete a session."""
        await self._client.sessions.remove(session.id)

    async def apps(self) -> dict[str, App]:
        """Return the apps, keyed by name. ``kind`` is ``agent``, ``flow``, or ``store`` for a store with a chat app."""
        return {app.name: app for app in await self._client.apps.list()}

    def ask(self, partner: Partner, session: Session | None, history: History, question: str) -> Asking:
        """Ask a question in a conversation. Without a ``session``, a new session is created once the answer is
        complete.
        """
        return Asking(self._client, partner, session, history, question)


class Asking:
    """A question that is being answered. Read all `events`, then call `keep` to store the messages."""

    def __init__(
        self,
        client: AsyncClient,
        partner: Partner,
        session: Session | None,
        history: History,
        question: str,
    ) -> None:
        self._client = client
        self._partner = partner
        self._session = session
        self._history = history
        self._question = question
        self._name = f"chat-{secrets.token_hex(4)}"
        self._is_agent = False
        self._text = ""
        self._passages: tuple[Passage, ...] = ()
        self.speaker = partner.name
        """The name of the agent that answers; it changes when an agent hands over the conversation."""
        self.usage = Usage()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield all events until the answer is complete. Closing the generator stops the answer."""
        self._is_agent = self._partner.app and await self._agent()
        if self._is_agent and self._session is None and self._history:
            self._session = await self._begin(self._history)  # messages to another partner
        async with aclosing(self._source()) as source:
            async for event in source:
                match event:
                    case Delta(text=text):
                        self._text += text
                    case Cited(passages=passages):
                        self._passages = passages
                    case Usage() as usage:
                        self.usage = usage
                    case Finished(result=result) if self._is_agent:
                        self.speaker = _speaker(result) or self.speaker
                yield event

    async def _source(self) -> AsyncGenerator[Event, None]:
        if self._is_agent:
            within = self._name if self._session is None else self._session.id
            running = self._client.apps.start(self._partner.name, self._question, session=within)
            try:
                async for event in running.events():
                    yield event
            finally:
                await running.close()
            return
        messages = [item.message for item in self._history]
        if self._partner.app:
            answer = self._client.ask(self._question, self._partner.name, history=messages)
        else:
            answer = self._client.chat(
                [*messages, {"role": "user", "content": self._question}], self._partner.name
            )
        async with answer:
            async for event in answer.events():
                yield event

    async def _agent(self) -> bool:
        return any(
            app.name == self._partner.name and app.kind == "agent" for app in await self._client.apps.list()
        )

    async def _begin(self, history: History) -> Session:
        """Create a session with the partner that contains the earlier messages."""
        first_question = next((item.content for item in history if item.role == "user"), self._question)
        session = await self._client.sessions.open(self._partner.name, title=_headline(first_question))
        return await self._client.sessions.add(session.id, [self._message(item) for item in history])

    def _message(self, item: ChatMessage) -> dict[str, Any]:
        sender = "user" if item.role == "user" else self._partner.name
        about = {"passages": [asdict(passage) for passage in item.passages]}
        return {"sender": sender, "content": item.content, "extra_info": about if item.passages else None}

    @property
    def messages(self) -> list[ChatMessage]:
        """The question and the answer."""
        return [ChatMessage("user", self._question), ChatMessage("assistant", self._text, self._passages)]

    async def keep(self) -> Session:
        """Store the messages, and return the session that contains them."""
        if self._is_agent:  # the daemon has stored the turn
            if self._session is None:
                (self._session,) = await self._client.sessions.list(
                    self._partner.name, name=self._name, limit=1
                )
        elif self._session is None:
            self._session = await self._begin([*self._history, *self.messages])
        else:
            messages = [self._message(item) for item in self.messages]
            self._session = await self._client.sessions.add(self._session.id, messages)
        return self._session


def title(session: Session) -> str:
    """Return the title of a conversation."""
    return session.title or session.name


def _headline(question: str) -> str:
    words = " ".join(question.split())
    return words if len(words) <= MAX_TITLE_CHARS else f"{words[: MAX_TITLE_CHARS - 1].rstrip()}…"


def _read_message(message: Mapping[str, Any]) -> ChatMessage:
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)
    about = message.get("extra_info") or {}
    passages = tuple(passage_from_json(item) for item in about.get("passages") or ())
    return ChatMessage("user" if message.get("sender") == "user" else "assistant", content, passages)


def _speaker(result: Any) -> str:
    value = result.get("value", result) if isinstance(result, Mapping) else {}
    return str(value.get("sender") or "") if isinstance(value, Mapping) else ""
