"""Fetching files from the network: some at a time, and a reason for each one that cannot be fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError, TooLarge, Unavailable
from portico_server.core.interfaces import FetchedResponse
from portico_server.db.stores import StoreFileRow
from portico_server.knowledge.files import FileStorage, ReceivedFile
from portico_server.knowledge.parse.formats import format_of
from portico_server.knowledge.sources.source import FetchFailure, FetchResult
from portico_server.knowledge.walk import SourceEntry, no_text
from portico_server.settings import MB_BYTES

MAX_CONCURRENT_FETCHES = 8
"""Files that are fetched at a time from one source."""

FetchOne = Callable[[SourceEntry, StoreFileRow | None], Awaitable[FetchResult]]


async def fetch_all(
    files: FileStorage, wanted: Sequence[tuple[SourceEntry, StoreFileRow | None]], one: FetchOne
) -> list[FetchResult]:
    """Each of ``wanted`` by ``one``, `MAX_CONCURRENT_FETCHES` at a time, in their order.

    What goes wrong with one of them is its own reason. Raises `Unavailable` if our own disk is to blame.
    """
    slots = asyncio.Semaphore(MAX_CONCURRENT_FETCHES)
    taken: dict[int, FetchResult] = {}

    async def take(number: int, seen: SourceEntry, old: StoreFileRow | None) -> None:
        async with slots:
            try:
                taken[number] = await one(seen, old)
            except Unavailable:
                raise
            except PorticoError as error:
                taken[number] = FetchFailure("could not be fetched", detail=error.message)

    try:
        async with asyncio.TaskGroup() as tasks:
            for number, (seen, old) in enumerate(wanted):
                tasks.create_task(take(number, seen, old), name=f"take {number}")
    except BaseException as error:
        for item in taken.values():
            if isinstance(item, ReceivedFile):
                await asyncio.shield(files.drop(item))
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    return [taken[number] for number in range(len(wanted))]


async def receive_document(
    files: FileStorage, came: FetchedResponse, name: str, max_bytes: int
) -> ReceivedFile | FetchFailure:
    """The bytes of one file, or why they are not a document that is read here."""
    too_large = FetchFailure(f"larger than {max_bytes // MB_BYTES} MB", gone=True)
    length = came.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        return too_large
    try:
        received = await files.receive(came.body, durable=False)
    except TooLarge:
        return too_large
    if format_of(name) is None and (why := await pools.DOCUMENTS.run(no_text, received.path)):
        await files.drop(received)
        return FetchFailure(why, gone=True)
    return received


async def read_body(body: AsyncIterator[bytes], most: int) -> bytes:
    """A whole body in memory. Raises `InvalidRequest` if it has more than ``most`` bytes."""
    data = bytearray()
    async for block in body:
        data += block
        if len(data) > most:
            raise InvalidRequest(
                f"The list of what is to be followed has more than {most // MB_BYTES} MB; follow parts of it.",
                code="source_too_large",
                param="source",
            )
    return bytes(data)
