"""The tables in the files of stores: which of them fit a question, and one value computed from one of them."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any, Final

from portico.wire import Passage, Place
from portico_server.core import filter as filters
from portico_server.core.errors import NotFound
from portico_server.core.request import Filter
from portico_server.core.tables import (
    CellMention,
    ComputedValue,
    FindTables,
    StoreColumn,
    StoreTable,
    TableList,
    TableQuery,
)
from portico_server.db import stores as rows
from portico_server.db.database import Database
from portico_server.db.stores import StoreFileRow
from portico_server.features.chunkers.document import Unreadable
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import FORMATS
from portico_server.features.readers.pool import ReaderPool

MAX_TABLE_FILES: Final = 200
"""Maximum number of files with tables in a store whose tables are compared with a question."""

MAX_KNOWN_FILES: Final = 1_024
"""Maximum number of files whose names of columns are cached."""

FIND_TIMEOUT_S: Final = 5.0
"""Maximum seconds to look for the table of a question."""

_ENDINGS = tuple(
    sorted(f".{suffix}" for form in FORMATS if form.name in ("csv", "sheet") for suffix in form.suffixes)
)
_WORD = re.compile(r"[^\W_]+")


class StoreTables:
    """Reads the tables of stores in the processes that read documents, within their limits.

    A worker reads a table from the bytes of its file, and keeps the tables that it used last in memory. The words above
    the columns are cached here.
    """

    def __init__(self, database: Database, files: FileStorage, readers: ReaderPool) -> None:
        self._database = database
        self._files = files
        self._readers = readers
        self._words: OrderedDict[str, frozenset[str]] = OrderedDict()
        """The `_parts` of the words above the columns of a file, by its digest."""

    async def find(self, store_id: str, condition: Filter | None, request: FindTables) -> TableList:
        """Return the tables that share a word with the question, from files that meet ``condition``."""
        # Other files must not count for a caller who may read only some of them.
        limit = MAX_TABLE_FILES + 1 if condition is None else None
        file_rows = await self._database.read(rows.files_ending, store_id, _ENDINGS, limit)
        permitted_rows = {
            row.sha256: row for row in file_rows if condition is None or filters.permits(condition, row)
        }
        if len(permitted_rows) > MAX_TABLE_FILES:
            return TableList(())
        found_tables: list[Sequence[StoreTable]] = []
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S), asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._tables(row, request.question))
                    for row in permitted_rows.values()
                    if self._may_fit(row, request.question)
                ]
            found_tables = [task.result() for task in tasks]
        except TimeoutError:
            return TableList(())
        return TableList(tuple(table for tables in found_tables for table in tables))

    async def compute(
        self, store_id: str, store_name: str, condition: Filter | None, query: TableQuery
    ) -> ComputedValue:
        """Return the value of a query. Raise `NotFound` unless its file is in the store and meets ``condition``."""
        row = await self._database.read(rows.file, store_id, query.file_id)
        if row is None or (condition is not None and not filters.permits(condition, row)):
            raise _missing(query)
        about = {name: value for name, value in asdict(query).items() if name != "file_id"}
        try:
            async with self._files.open(row.sha256) as path:
                answer = await self._readers.tables(path, row.filename, {"query": about})
        except Unreadable as error:
            raise _missing(query) from error
        passages = tuple(
            Passage(rank, 1.0, text, row.file_id, row.filename, Place(**place), store_name, row.attributes)
            for rank, (text, place) in enumerate(answer.pop("rows"), 1)
        )
        return ComputedValue(**{**answer, "labels": tuple(answer["labels"])}, passages=passages)

    def _may_fit(self, row: StoreFileRow, question: str) -> bool:
        """Return whether a file may have a table for a question: a word in common, or not read yet."""
        words = self._words.get(row.sha256)
        return words is None or not _parts(question).isdisjoint(words | _parts(row.filename.lower()))

    async def _tables(self, row: StoreFileRow, question: str) -> Sequence[StoreTable]:
        try:
            async with self._files.open(row.sha256) as path:
                tables = await self._readers.tables(path, row.filename, {"question": question})
        except Unreadable:
            tables = []
        self._words[row.sha256] = frozenset[str]().union(
            *(_parts(words) for table in tables for words in table["words"])
        )
        self._words.move_to_end(row.sha256)
        if len(self._words) > MAX_KNOWN_FILES:
            self._words.popitem(last=False)
        return [_table(row, table) for table in tables]


def _parts(text: str) -> frozenset[str]:
    """Return the beginnings of the words of a text and its pairs of characters in scripts without spaces."""
    words = _WORD.findall(text)
    pairs = (first + second for word in words if not word.isascii() for first, second in pairwise(word))
    return frozenset((*(word[:4] for word in words), *pairs))


def _table(row: StoreFileRow, table: Mapping[str, Any]) -> StoreTable:
    columns = tuple(
        StoreColumn(
            **{
                **column,
                "mentions": tuple(
                    CellMention(mention["words"], tuple(mention["spellings"]))
                    for mention in column["mentions"]
                ),
            }
        )
        for column in table["columns"]
    )
    return StoreTable(
        row.file_id,
        row.filename,
        table["sheet"],
        table["title"],
        table["row_count"],
        columns,
        is_partial=table["is_partial"],
    )


def _missing(query: TableQuery) -> NotFound:
    return NotFound(
        f"The store has no table '{query.sheet}' in a file '{query.file_id[:80]}'.", code="table_not_found"
    )
