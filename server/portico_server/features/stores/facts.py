"""Facts that agents remember, stored as short files in a store, with the former versions of each fact."""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, cast

from portico.schemas.facts import FactChange, FactSpan
from portico_server.core import pools
from portico_server.core.errors import Conflict, NotFound
from portico_server.core.facts import MEMORY, MEMORY_VERSION, OWNER, SPAN, SPAN_START, NewFact, StoredFact
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.db import facts
from portico_server.db.database import Database
from portico_server.db.facts import FACT_PREFIX, FactRow, FactVersionRow
from portico_server.features.files.files import FileStorage
from portico_server.features.stores.contents import FileToAttach
from portico_server.features.stores.stores import StoreService

MAX_FILES: Final = 100
"""Maximum number of files of a fact that are read: more than one exists after an interruption only."""

_CREATED = "created_at"


class StoredFacts:
    """A `portico_server.core.facts.FactStore` that stores each fact as a file, so that searches find the fact.

    Only this class writes facts, and callers need no scope on the store. The API of the store lists to each key only
    its own facts. The bytes of a file never change: a changed fact is stored as a new file
    with the previous fact id, and the text of the old file becomes a former version.
    """

    def __init__(self, database: Database, stores: StoreService, files: FileStorage) -> None:
        self._database = database
        self._stores = stores
        self._files = files

    async def add(
        self,
        store: str,
        new_facts: Sequence[NewFact],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        row = await self._stores.memory(store, caller)
        await self._database.write(facts.note_owner, row.id, caller.id)
        attachments = []
        for fact in new_facts:
            reason: FactChange
            own_attributes = {**attributes, **_span_attributes(fact.span), MEMORY: MEMORY_VERSION}
            equal = await self._rows(caller, store_id=row.id, filename=_filename(fact.text))
            old_id, reason = (equal[0].id, "merged") if equal else (fact.replaces, "replaced")
            old_rows = await self._rows(caller, store_id=row.id, fact_id=old_id) if old_id else ()
            if old_rows:
                await self._replace(old_rows, fact.text, own_attributes, reason, caller)
            else:
                file_id = await self._keep(fact.text, caller, caller.id)
                attachments.append(FileToAttach(file_id, {**own_attributes, "id": new_id("fact_")}))
        await self._stores.contents.attach_facts(row, attachments, caller)

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        versions: bool = False,
        after_id: str | None = None,
        limit: int = 100,
    ) -> Sequence[StoredFact]:
        within = None if store is None else (await self._stores.memory(store, caller)).id
        after_row = None if after_id is None else (await self._rows_of(after_id, caller))[0]
        fact_rows = await self._database.read(
            facts.newest_facts, caller.id, limit, store_id=within, where=where, after_fact=after_row
        )
        names = await self._stores.memories(caller)
        first: dict[str, FactRow] = {}
        for row in fact_rows:  # the newest file of a fact is its current version
            if row.store_id in names:
                first.setdefault(row.id, row)
        former = await self._former([row.file_id for row in first.values()]) if versions else {}
        stored_facts: list[StoredFact] = []
        for row in first.values():
            name = names[row.store_id]
            stored_facts.append(_current_fact(row, name, await self._text(row)))
            stored_facts += (_former_fact(row, name, version) for version in former.get(row.file_id, ()))
        return stored_facts

    async def versions(self, fact_id: str, caller: Principal) -> Sequence[StoredFact]:
        row = (await self._rows_of(fact_id, caller))[0]
        store = await self._stores.memory(row.store_id, caller)
        name = store.name or store.id
        former = await self._former([row.file_id])
        current = _current_fact(row, name, await self._text(row))
        return [current, *(_former_fact(row, name, version) for version in former.get(row.file_id, ()))]

    async def change(self, fact_id: str, text: str, caller: Principal) -> StoredFact:
        old_rows = await self._rows_of(fact_id, caller)
        return await self._replace(old_rows, text, _without_span(old_rows[0].attributes), "changed", caller)

    async def revert(self, fact_id: str, caller: Principal) -> StoredFact:
        old_rows = await self._rows_of(fact_id, caller)
        former = await self._former([old_rows[0].file_id])
        version = next(
            (row for row in former.get(old_rows[0].file_id, ()) if row.reason != "reverted"), None
        )  # a version that a person has undone is not restored again
        if version is None:
            raise Conflict(
                f"Fact '{fact_id[:80]}' has no version before this one.",
                code="no_earlier_version",
                param="id",
            )
        fact = await self._replace(old_rows, version.text, version.attributes, "reverted", caller)
        await self._database.write(facts.remove_version, version.id)
        return fact

    async def remove(self, fact_id: str, caller: Principal) -> None:
        for row in await self._rows_of(fact_id, caller):
            await self._forget(row, caller)

    async def _replace(
        self,
        old_rows: Sequence[FactRow],
        text: str,
        attributes: Mapping[str, Any],
        reason: FactChange,
        caller: Principal,
    ) -> StoredFact:
        """Store a new current version of a fact, whose files are ``old_rows``."""
        current = old_rows[0]
        store = await self._stores.memory(current.store_id, caller)
        created_at = old_rows[-1].attributes.get(_CREATED, old_rows[-1].created_at)
        file_id = await self._keep(text, caller, str(current.attributes[OWNER]))
        attachment = FileToAttach(file_id, {**attributes, "id": current.id, _CREATED: created_at})
        await self._stores.contents.attach_facts(store, [attachment], caller)
        (row, *_rows) = await self._rows_of(current.id, caller)
        # The old file is removed only after the new file exists. After an interruption, both exist and the newer file
        # counts.
        for old in reversed(old_rows):
            version = (old, await self._text(old), reason, row.created_at, file_id)
            await self._database.write(facts.add_version, *version)
            await self._forget(old, caller)
        return _current_fact(row, store.name or store.id, text)

    async def _rows(self, caller: Principal, **conditions: Any) -> Sequence[FactRow]:
        return await self._database.read(facts.newest_facts, caller.id, MAX_FILES, **conditions)

    async def _rows_of(self, fact_id: str, caller: Principal) -> Sequence[FactRow]:
        owner = None if caller.admin else caller.id
        fact_rows = await self._database.read(facts.newest_facts, owner, MAX_FILES, fact_id=fact_id)
        if not fact_rows:
            raise NotFound(f"Fact '{fact_id[:80]}' not found.", code="fact_not_found", param="id")
        return fact_rows

    async def _former(self, file_ids: Sequence[str]) -> Mapping[str, Sequence[FactVersionRow]]:
        return await self._database.read(facts.versions, file_ids)

    async def _keep(self, text: str, caller: Principal, owner: str) -> str:
        data = _once(text.encode())
        return (await self._files.create(_filename(text), "assistants", data, caller, owner=owner)).id

    async def _forget(self, row: FactRow, caller: Principal) -> None:
        store = await self._stores.memory(row.store_id, caller)
        await self._stores.contents.detach(store, row.file_id)
        await self._files.delete(row.file_id, caller)

    async def _text(self, row: FactRow) -> str:
        async with self._files.open(row.sha256) as path:
            return (await pools.FILES.run(path.read_bytes)).decode()


def _current_fact(row: FactRow, store: str, text: str) -> StoredFact:
    created_at = float(row.attributes.get(_CREATED, row.created_at))
    return StoredFact(row.id, store, text, row.attributes, created_at, row.created_at)


def _former_fact(row: FactRow, store: str, version: FactVersionRow) -> StoredFact:
    return StoredFact(
        row.id,
        store,
        version.text,
        version.attributes,
        float(row.attributes.get(_CREATED, row.created_at)),
        version.changed_at,
        version.ended_at,
        cast("FactChange", version.reason),
    )


def _span_attributes(span: FactSpan) -> Mapping[str, str | float]:
    return {SPAN: span.words, SPAN_START: span.start}


def _without_span(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in attributes.items() if name not in (SPAN, SPAN_START)}


def _filename(text: str) -> str:
    """Return a file's name that facts share if their texts differ only in letter case, white space and punctuation at
    the end.
    """
    normal_text = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".!。")
    return f"{FACT_PREFIX}{sha256(normal_text.encode()).hexdigest()[:16]}.txt"


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
