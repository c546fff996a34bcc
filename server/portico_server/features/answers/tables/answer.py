"""The computed answer of a store's app: from the question to the value of one query over one table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from portico.wire import Passage
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError
from portico_server.core.pools import SEARCH
from portico_server.core.tables import ComputedValue, FindTables, StoreTable, TableList
from portico_server.features.answers.tables.lexicon import COMPUTES
from portico_server.features.answers.tables.rules import TableReading, best_reading, read_question
from portico_server.features.answers.tables.wording import answer_text, has_wording
from portico_server.features.answers.terms import fold

logger = logging.getLogger(__name__)

MAX_QUESTION_CHARS: Final = 300
"""Maximum length of a question that is computed, in characters."""

_FULL_WIDTH: Final = {0xFEE0 + code: code for code in range(0x30, 0x7B)}
"""Full-width digits and letters."""


@dataclass(frozen=True, slots=True)
class ComputedAnswer:
    """The text of an answer, and the rows that it cites."""

    text: str
    passages: tuple[Passage, ...]


async def compute_answer(
    question: str, store: str, context: Context, *, is_first: bool
) -> ComputedAnswer | None:
    """Return the answer to a question that a table of a store answers, or ``None`` if that is not clear.

    ``store`` is the key of the store in the registry. A question that is not the first of a conversation must name what
    is in the rows: "What is the total amount?" may concern only the rows of the previous question.
    """
    if len(question) > MAX_QUESTION_CHARS or not has_wording(question):
        return None
    plain_question = " ".join(question.translate(_FULL_WIDTH).split())
    folded_question = await SEARCH.run(fold, plain_question)
    if COMPUTES.search(folded_question) is None:
        return None
    try:
        tables = await context.call(store, FindTables(folded_question))
        assert isinstance(tables, TableList)
        reading = await SEARCH.run(_read, plain_question, tables.tables)
        if reading is None or not (is_first or reading.naming):
            return None
        result = await context.call(store, reading.query)
    except PorticoError as error:
        logger.info("answering from passages instead of computing: %s", error.message)
        return None
    assert isinstance(result, ComputedValue)
    if result.value is None or (not result.valued_rows and not reading.query.conditions):
        return None
    return ComputedAnswer(answer_text(question, reading, result), result.passages)


def _read(question: str, tables: Sequence[StoreTable]) -> TableReading | None:
    question, tables = _in_named_file(question, tables)
    table_counts = Counter(table.file_id for table in tables)
    readings = (
        read_question(question, table, names_file=table_counts[table.file_id] == 1) for table in tables
    )
    return best_reading([reading for reading in readings if reading is not None])


def _in_named_file(question: str, tables: Sequence[StoreTable]) -> tuple[str, Sequence[StoreTable]]:
    """Return the question without the name of a file, and the tables of that file; all tables if it names none."""
    for name in sorted({table.filename.rpartition("/")[2] for table in tables}, key=len, reverse=True):
        start = question.lower().find(name.lower())
        if start >= 0:
            plain = f"{question[:start]}{' ' * len(name)}{question[start + len(name) :]}"
            return plain, [table for table in tables if table.filename.rpartition("/")[2] == name]
    return question, tables
