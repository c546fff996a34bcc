"""Messages between daemons on one PostgreSQL: table changes, small messages, questions and answers.

With SQLite there are no other daemons, so this module does nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import logging
import time
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson
from sqlalchemy import Connection, select

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, Unavailable
from portico_server.db.database import Database
from portico_server.db.failures import RETRY_S
from portico_server.db.schema import CHANNEL, epochs

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

POLL_INTERVAL_S: Final = 1.0
"""Seconds between two checks of the epochs, which is the maximum delay if a notice is lost."""

SEND_INTERVAL_S: Final = 0.05
"""Seconds during which messages are collected before they are sent together."""

MAX_NOTICE_BYTES: Final = 7_000
"""Maximum size of a notice, in bytes; PostgreSQL accepts fewer than 8,000."""

PRESENT_S: Final = 10.0
"""Seconds for which a daemon counts as present after its last message. Each daemon announces itself every two
seconds.
"""

ANSWER_TIMEOUT_S: Final = 5.0
"""Seconds to wait for a daemon's answer before asking again, because the notice may have been lost."""

MAX_ASK_ATTEMPTS: Final = 3

MAX_ASKED_COUNT: Final = 1_000
"""Maximum number of questions waiting for answers, and maximum number of questions waiting to be answered."""

MAX_ANSWER_BYTES: Final = 2**20
"""Maximum size of a compressed answer, in bytes; the answer is sent in pieces, one per notice."""

MAX_PLAIN_BYTES: Final = 32 * 2**20
"""Maximum size of an answer before compression, in bytes."""

PIECE_CHARS: Final = 6_000

Refresh: TypeAlias = Callable[[], Awaitable[None]]
Receive: TypeAlias = Callable[[str, Any], None]
"""A function that receives the name of the sending daemon, and a message from it."""

Answer: TypeAlias = Callable[[Any], Awaitable[Any]]
"""A function that receives a question of another daemon and returns JSON, or ``None`` if this daemon has no answer."""


@dataclass(slots=True)
class _OpenQuestion:
    """A question without an answer yet: the daemons whose answers are awaited, and the pieces received so far."""

    waiting: set[str]
    answer: asyncio.Future[tuple[str, Any] | None]
    pieces: dict[str, dict[int, str]] = field(default_factory=dict)


class Feed:
    """Refreshes cached tables when another daemon changes them, and carries messages between daemons.

    Each change increments a number in ``epochs`` in its own transaction; a notice only makes other daemons see the
    change sooner. Messages may be lost with a connection, so everything that depends on a message can also be learned
    in another way.
    """

    def __init__(self, database: Database) -> None:
        self._postgres = database.postgres
        self._database = database
        self._refreshes: dict[str, Refresh] = {}
        self._receivers: dict[str, Receive] = {}
        self._known_numbers: dict[str, int] = {}
        self._latest_numbers: dict[str, int] = {}
        self._reports: dict[str, Callable[[bool], Mapping[str, Any]]] = {}
        self._wake = asyncio.Event()
        self._heard_at: dict[str, float] = {}
        """Maps other daemons to the time of their last message, as `time.monotonic`."""
        self._outbox: deque[tuple[str, Any]] = deque(maxlen=10 * MAX_ASKED_COUNT)
        self._answers: dict[str, Answer] = {}
        self._questions: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue(MAX_ASKED_COUNT)
        self._open_questions: dict[int, _OpenQuestion] = {}
        self._numbers = itertools.count(1)

    def refresh(self, table: str, refresh: Refresh) -> None:
        """Call ``refresh`` after another daemon has changed the table."""
        self._refreshes[table] = refresh
        if self._postgres is not None:
            self._postgres.watched = frozenset(self._refreshes)

    def receive(self, kind: str, receive: Receive) -> None:
        """Call ``receive`` with each message of a kind that other daemons send."""
        self._receivers[kind] = receive

    def report(self, kind: str, collect: Callable[[bool], Mapping[str, Any]]) -> Callable[[], None]:
        """Send what ``collect`` returns, which maps names to messages, to all other daemons.

        This happens soon after each call of the returned function, and every second; only in the second case does
        ``collect`` receive ``True``.
        """
        self._reports[kind] = collect
        return self._wake.set

    def answer(self, kind: str, answer: Answer) -> None:
        """Register the function that answers the questions of a kind that other daemons send with `ask`."""
        self._answers[kind] = answer

    async def ask(self, kind: str, question: Any, daemon: str = "") -> tuple[str, Any] | None:
        """Ask ``daemon``, or all other daemons if it is empty. Return the name of the first daemon that has an answer,
        and the answer.

        Return ``None`` if no running daemon has an answer, or if the daemons that have not answered are no longer
        running. Raise `Unavailable` if a running daemon does not answer. A question may arrive more than once.
        """
        for _ in range(MAX_ASK_ATTEMPTS):
            other_daemons = {daemon} & self._present() if daemon else self._present()
            if not other_daemons:
                return None
            if self._postgres is None or len(self._open_questions) >= MAX_ASKED_COUNT:
                raise Unavailable(
                    "Too many questions to other daemons are waiting. Try again.", retry_after=1
                )
            number = next(self._numbers)
            open_question = self._open_questions[number] = _OpenQuestion(
                other_daemons, asyncio.get_running_loop().create_future()
            )
            self._outbox.append(("ask", {"kind": kind, "id": number, "to": daemon, "question": question}))
            self._wake.set()
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await open_question.answer
            except TimeoutError:
                if not open_question.waiting & self._present():
                    return None
            finally:
                del self._open_questions[number]
        raise Unavailable(
            f"Another daemon on this database has not answered for {MAX_ASK_ATTEMPTS * ANSWER_TIMEOUT_S:g} s. "
            "Try again.",
            code="daemon_silent",
            retry_after=1,
        )

    def _present(self) -> set[str]:
        """Return the other daemons that have sent a message recently."""
        now = time.monotonic()
        self._heard_at = {name: at for name, at in self._heard_at.items() if now - at < PRESENT_S}
        return set(self._heard_at)

    async def run(self) -> None:
        """Listen, send and answer until cancelled; reconnect if the connection is lost."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="feed")
            while True:
                origin, question = await self._questions.get()
                tasks.create_task(self._reply(origin, question), name="answer to another daemon")

    async def _reply(self, origin: str, question: Mapping[str, Any]) -> None:
        head = {"to": origin, "id": question["id"]}
        answer = self._answers.get(question["kind"])
        try:
            reply = {"answer": None if answer is None else await answer(question["question"])}
            plain = orjson.dumps(reply)
            compressed_reply = zlib.compress(plain, 1)
            if len(compressed_reply) > MAX_ANSWER_BYTES or len(plain) > MAX_PLAIN_BYTES:
                raise Unavailable(
                    "The answer is too large to forward. Send the request to the daemon that has it."
                )
        except PorticoError as error:
            compressed_reply = zlib.compress(orjson.dumps({"failed": error.message}))
        except Exception:  # affects only this question: the others are answered
            logger.exception("a question from another daemon could not be answered")
            compressed_reply = zlib.compress(
                orjson.dumps({"failed": "The other daemon failed; see its log for the reason."})
            )
        text = base64.b64encode(compressed_reply).decode()
        pieces = [text[start : start + PIECE_CHARS] for start in range(0, len(text), PIECE_CHARS)]
        for part, piece in enumerate(pieces):
            self._outbox.append(("answer", {**head, "part": part, "of": len(pieces), "text": piece}))
        self._wake.set()

    async def _listen(self) -> None:
        while self._postgres is not None:
            try:
                connection = await self._postgres.connect()
                try:
                    await connection.add_listener(CHANNEL, self._listener)
                    self._outbox.append(("hello", {}))
                    await self._follow(connection)
                finally:
                    connection.terminate()
            except PorticoError as error:
                logger.warning("cannot receive changes from other daemons at the moment: %s", error.message)
            except self._postgres.errors as error:
                logger.warning("cannot receive changes from other daemons at the moment: %s", error)
            await asyncio.sleep(RETRY_S)

    async def _follow(self, connection: asyncpg.Connection[Any]) -> None:
        loop = asyncio.get_running_loop()
        polled_at = float("-inf")
        while True:
            self._wake.clear()
            poll = loop.time() - polled_at >= POLL_INTERVAL_S
            if poll:
                polled_at = loop.time()
                self._latest_numbers.update(await self._database.read(_numbers))
            await self._catch_up()
            await self._send(connection, poll)
            try:
                async with asyncio.timeout(max(0.0, polled_at + POLL_INTERVAL_S - loop.time())):
                    await self._wake.wait()
                    await asyncio.sleep(SEND_INTERVAL_S)
            except TimeoutError:
                continue

    async def _catch_up(self) -> None:
        for table, refresh in self._refreshes.items():
            number = self._latest_numbers.get(table, 0)
            if number > self._known_numbers.get(table, 0):
                try:
                    await refresh()
                except PorticoError as error:
                    logger.warning("the changes of %s could not be read: %s", table, error.message)
                except (
                    Exception
                    # affects only this table, which is retried: the other tables are refreshed,
                    # and the daemon keeps serving
                ):
                    logger.exception("the changes of %s could not be applied", table)
                else:
                    self._known_numbers[table] = number

    async def _send(self, connection: asyncpg.Connection[Any], poll: bool) -> None:
        assert self._postgres is not None
        messages: list[tuple[str, Any]] = [
            (kind, {name: report})
            for kind, collect in self._reports.items()
            for name, report in collect(poll).items()
        ]
        while self._outbox:
            messages.append(self._outbox.popleft())
        while messages:
            size, count = 0, 0
            for message in messages:
                size += len(orjson.dumps(message)) + 1
                if count and size > MAX_NOTICE_BYTES:
                    break
                count += 1
            payload = orjson.dumps({"origin": self._postgres.origin, "messages": messages[:count]}).decode()
            await connection.execute("select pg_notify($1, $2)", CHANNEL, payload)
            del messages[:count]

    def _listener(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        assert self._postgres is not None
        try:
            notice: Mapping[str, Any] = orjson.loads(payload)
            origin: str = notice["origin"]
            is_own = origin == self._postgres.origin
            for table, number in notice.get("epochs", {}).items():
                self._latest_numbers[table] = max(number, self._latest_numbers.get(table, 0))
                if is_own and self._known_numbers.get(table, 0) == number - 1:
                    self._known_numbers[table] = number  # this daemon made the change, and knows it
            if origin and not is_own:
                self._heard_at[origin] = time.monotonic()
            for kind, data in () if is_own else notice.get("messages", ()):
                match kind:
                    case "hello":
                        self._outbox.append(("here", {}))
                    case "ask" if data["to"] in ("", self._postgres.origin) and not self._questions.full():
                        self._questions.put_nowait((origin, data))
                    case "answer" if data["to"] == self._postgres.origin:
                        self._take(origin, data)
                    case _ if kind in self._receivers:
                        self._receivers[kind](origin, data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("a database notice cannot be read: %s", error)
        self._wake.set()

    def _take(self, origin: str, data: Mapping[str, Any]) -> None:
        """Receive a piece of an answer; the last piece completes the answer."""
        open_question = self._open_questions.get(data["id"])
        if open_question is None or open_question.answer.done():
            return
        pieces = open_question.pieces.setdefault(origin, {})
        pieces[data["part"]] = data["text"]
        if len(pieces) < data["of"]:
            return
        open_question.waiting.discard(origin)
        try:
            compressed_reply = base64.b64decode(
                "".join(pieces[part] for part in range(data["of"])), validate=True
            )
            reply = orjson.loads(zlib.decompressobj().decompress(compressed_reply, MAX_PLAIN_BYTES))
        except (binascii.Error, zlib.error, orjson.JSONDecodeError):
            reply = {"failed": "The answer from another daemon cannot be read."}
        if "failed" in reply:
            open_question.answer.set_exception(Unavailable(reply["failed"], code="daemon_failed"))
        elif reply["answer"] is not None:
            open_question.answer.set_result((origin, reply["answer"]))
        elif not open_question.waiting:
            open_question.answer.set_result(None)


def _numbers(connection: Connection) -> dict[str, int]:
    return {row.topic: row.number for row in connection.execute(select(epochs.c.topic, epochs.c.number))}
