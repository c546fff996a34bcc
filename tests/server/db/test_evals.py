"""Evaluations in the database: what is deleted in the meantime begins no work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from portico_server.core.errors import NotFound
from portico_server.db import eval_searches, runs
from portico_server.db import evals as rows
from portico_server.db.database import Database
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRow, EvalRunRow, ItemRow
from portico_server.db.runs import NewRun

ITEMS = [ItemRow(0, {"question": "a"}, None)]

EVAL_RUN = EvalRunRow("evalrun_1", "eval_1", "key_one", "run_1", "mine", {}, "evalrun_1", 1, {}, 1.0)

SEARCH = EvalSearchRow("evalsearch_1", "eval_1", "key_one", "run_1", "mine", {}, 1, 1.0)


@pytest.mark.parametrize(
    ("begin", "row", "parts"),
    [
        pytest.param(rows.begin, EVAL_RUN, [ITEMS], id="run"),
        pytest.param(eval_searches.begin_search, SEARCH, [[EVAL_RUN], ITEMS], id="search"),
    ],
)
async def test_starting_a_deleted_evaluation_is_not_found_and_creates_no_run(
    database: Database, begin: Callable[..., None], row: Any, parts: Sequence[Any]
) -> None:
    run = NewRun("run_1", "eval", "evalrun_1", "key_one", {})
    await database.write(rows.create, EvalRow("eval_1", "key_one", "mine", {}, {}, 1.0, 1.0))
    await database.write(rows.remove, "eval_1")
    with pytest.raises(NotFound) as error:
        await database.write(begin, row, *parts, run)
    assert error.value.code == "eval_not_found"
    assert await database.read(runs.get, "run_1") is None
