"""Questions in the database: only a run that has not ended asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from portico_server.core.errors import Conflict
from portico_server.db import questions as rows
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.questions import QuestionRow
from portico_server.db.runs import NewRun


@pytest.mark.parametrize(
    ("end", "how"),
    [
        pytest.param(runs.cancel_elsewhere, {"code": "cancelled"}, id="cancelled"),
        pytest.param(runs.finish, "failed", id="failed"),
    ],
)
async def test_a_run_ended_by_another_daemon_cannot_ask_a_question(
    database: Database, end: Callable[..., Any], how: Any
) -> None:
    await database.write(runs.begin, NewRun("run_1", "flow", "mine", "key_one", {}), "first", 30.0)
    await database.write(end, "run_1", how)
    moment = time.time()
    question = QuestionRow(
        "ask_1", "run_1", "step", "key_one", "approval", "tool", "May I?", moment, moment + 60
    )
    with pytest.raises(Conflict) as error:
        await database.write(rows.ask, question)
    assert error.value.code == "question_cancelled"
    assert not (await database.read(rows.newest, None)).data
