"""Taking files from the network: some at a time, and for each one that cannot be had a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError, TooLarge, Unavailable
from portico_server.core.interfaces import FetchedResponse
from portico_server.db.stores import StoreFileRow
from portico_server.knowledge.files import MB, Files
from portico_server.knowledge.parse.formats import format_of
from portico_server.knowledge.receiving import Received
from portico_server.knowledge.source import Missed, Taken
from portico_server.knowledge.walk import Seen, no_text

AT_ONCE = 8
"""Files that are fetched at a time from one source."""

Take = Callable[[Seen, StoreFileRow | None], Awaitable[Taken]]


async def take_all(
    files: Files, wanted: Sequence[tuple[Seen, StoreFileRow | None]], one: Take
) -> list[Taken]:
    """Each of ``wanted`` by ``one``, `AT_ONCE` at a time, in their order.

    What goes wrong with one of them is its own reason. Raises `Unavailable` if our own disk is to blame.
    """
    room = asyncio.Semaphore(AT_ONCE)
    taken: dict[int, Taken] = {}

    async def take(number: int, seen: Seen, old: StoreFileRow | None) -> None:
        async with room:
            try:
                taken[number] = await one(seen, old)
            except Unavailable:
                raise
            except PorticoError as error:
                taken[number] = Missed("could not be fetched", detail=error.message)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number, (seen, old) in enumerate(wanted):
                tasks.create_task(take(number, seen, old), name=f"take {number}")
    except BaseException as error:
        for item in taken.values():
            if isinstance(item, Received):
                await asyncio.shield(files.drop(item))
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    return [taken[number] for number in range(len(wanted))]


async def receive(files: Files, came: FetchedResponse, name: str, max_bytes: int) -> Received | Missed:
    """The bytes of one file, or why they are no document that is read here."""
    too_large = Missed(f"larger than {max_bytes // MB} MB", gone=True)
    length = came.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        return too_large
    try:
        received = await files.receive(came.body, durable=False)
    except TooLarge:
        return too_large
    if format_of(name) is None and (why := await pools.DOCUMENTS.run(no_text, received.path)):
        await files.drop(received)
        return Missed(why, gone=True)
    return received


async def read(body: AsyncIterator[bytes], most: int) -> bytes:
    """A whole body in memory. Raises `InvalidRequest` if it has more than ``most`` bytes."""
    data = bytearray()
    async for block in body:
        data += block
        if len(data) > most:
            raise InvalidRequest(
                f"The list of what is to be followed has more than {most // MB} MB; follow parts of it.",
                code="source_too_large",
                param="source",
            )
    return bytes(data)
