"""Short texts as files of a store: facts that agents keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256

from portico_server.core.principal import Principal
from portico_server.knowledge.contents import Attachment
from portico_server.knowledge.files import Files
from portico_server.knowledge.stores import Stores


class StoredFacts:
    """`portico_server.core.facts.Facts`: each is a file of its own, so the store's own requests list and delete it."""

    def __init__(self, stores: Stores, files: Files) -> None:
        self._stores = stores
        self._files = files

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        row = await self._stores.get(store, caller, "write")
        attachments = []
        for text in texts:
            name = f"fact-{sha256(text.encode()).hexdigest()[:16]}.txt"
            file = await self._files.create(name, "assistants", _once(text.encode()), caller)
            attachments.append(Attachment(file.id, dict(attributes)))
        await self._stores.contents.attach(row, attachments, caller)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
