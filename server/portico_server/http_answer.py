"""The class of answers for the sessions of aiohttp that reach servers of others. Imports aiohttp."""

from __future__ import annotations

from typing import Any, Final

import aiohttp
from aiohttp.http import HttpProcessingError

MAX_INTERIM_ANSWERS_COUNT: Final = 16
"""Answers with a status below 200, such as 100 Continue and 103 Early Hints, before the one that counts."""


class HttpAnswer(aiohttp.ClientResponse):
    """An answer that begins. aiohttp reads past interim ones for as long as they come, and does not let go of the event
    loop while some wait: a server that sends nothing else would hold up the daemon.
    """

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        protocol = connection.protocol
        interim = 0

        async def read() -> Any:
            nonlocal interim
            message, payload = await type(protocol).read(protocol)
            interim += message.code < 200
            if interim > MAX_INTERIM_ANSWERS_COUNT:
                raise HttpProcessingError(
                    code=502, message=f"more than {MAX_INTERIM_ANSWERS_COUNT} interim answers"
                )
            return message, payload

        protocol.read = read
        try:
            return await super().start(connection)
        finally:
            del protocol.read
