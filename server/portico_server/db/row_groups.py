"""Rows written in groups: when many calls end together, committing is most of the cost of a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

MAX_DIRECT_CHARS = 65_536
"""Maximum total number of characters of rows that are written directly in the event loop."""


Rows: TypeAlias = Sequence[Sequence[Any]]


class RowGroups:
    """Writes the rows of one turn of the event loop together, in one transaction per statement.

    ``try_now`` tries to write rows in the event loop and returns whether it did; ``do`` runs ``insert`` in a thread.
    """

    def __init__(
        self,
        try_now: Callable[[str, Rows], bool],
        do: Callable[[Callable[[], list[Exception | None]]], asyncio.Future[list[Exception | None]]],
        insert: Callable[[str, Rows], None],
    ) -> None:
        self._try_now = try_now
        self._do = do
        self._insert = insert
        self._groups: dict[str, list[tuple[Sequence[Any], int, asyncio.Future[None]]]] = {}
        """Maps statements to the rows that wait to be written."""

    async def write(self, statement: str, row: Sequence[Any], chars: int) -> None:
        """Write a row with ``chars`` characters, in one transaction with the other rows of the same turn of the event
        loop.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        group = self._groups.setdefault(statement, [])
        group.append((row, chars, future))
        if len(group) == 1:
            loop.call_soon(self._write_group, statement)
        await future

    def _write_group(self, statement: str) -> None:
        group = [waiting_row for waiting_row in self._groups.pop(statement) if not waiting_row[2].done()]
        rows = [row for row, _chars, _future in group]
        futures = [future for _row, _chars, future in group]
        small = sum(chars for _row, chars, _future in group) < MAX_DIRECT_CHARS

        def settle(written_future: asyncio.Future[list[Exception | None]]) -> None:
            for future, error in zip(futures, written_future.result(), strict=True):
                if future.done():
                    continue
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        try:
            if not rows or (small and self._try_now(statement, rows)):
                for future in futures:
                    future.set_result(None)
            else:
                self._do(lambda: self._insert_each(statement, rows)).add_done_callback(settle)
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            for future in futures:
                future.set_exception(error)

    def _insert_each(self, statement: str, rows: Sequence[Sequence[Any]]) -> list[Exception | None]:
        """Write rows together or, if that fails, one by one; return the error of each row. Runs in the writer
        thread.
        """
        try:
            self._insert(statement, rows)
        except Exception as error:  # noqa: BLE001  # whoever waits gets it
            if len(rows) == 1:
                return [error]
            return [self._insert_each(statement, [row])[0] for row in rows]
        return [None] * len(rows)
