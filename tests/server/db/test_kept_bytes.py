"""The disk space of a key's sessions, conversations and responses is known, whatever happens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, select

from portico_server.db import (
    agent_tasks,
    apps,
    conversations,
    eval_searches,
    evals,
    files,
    prompts,
    responses,
    schema,
    sessions,
    tuning,
)
from portico_server.db.agent_tasks import AgentTaskRow
from portico_server.db.apps import AppRow
from portico_server.db.conversations import ConversationRow
from portico_server.db.database import Database
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.db.evals import EvalRow, EvalRunRow, ItemRow, OutputRow
from portico_server.db.responses import ResponseRow
from portico_server.db.rows import json_bytes, text_bytes
from portico_server.db.runs import NewRun
from portico_server.db.sessions import SessionKey
from portico_server.db.tuning import JobRow
from portico_server.runs.scheduler import new_run

OWNER = "key_1"
KEY = SessionKey("conv_s", "app_1", OWNER, "monday", "clerk")


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        fresh_database = Database.at(tmp_path / "portico.db")
        fresh_database.prepare()
        yield fresh_database
        fresh_database.close()
    else:
        fresh_database = Database(request.getfixturevalue("server").new())
        fresh_database.prepare()
        yield fresh_database
        fresh_database.close()


def recounted(connection: Connection) -> int:
    """Return the space of the rows, counted from their contents."""

    def column(table: Any, name: str) -> list[Any]:
        return list(connection.execute(select(table.c[name])).scalars())

    total = sum(
        map(json_bytes, column(schema.sessions, "metadata") + column(schema.conversations, "metadata"))
    )
    total += sum(map(json_bytes, column(schema.session_messages, "message")))
    total += sum(map(json_bytes, column(schema.session_states, "state")))
    total += sum(map(text_bytes, column(schema.conversation_items, "item")))
    for row in connection.execute(select(schema.responses)):
        total += text_bytes(row.input, row.document, row.ask)
    total += sum(map(len, column(schema.response_events, "data")))
    return total + sum(map(text_bytes, column(schema.agent_tasks, "messages")))


def said(text: str) -> tuple[str, Mapping[str, Any], float]:
    return "", {"sender": "clerk", "content": text}, 1.0


def item(name: str) -> dict[str, Any]:
    return {"id": name, "type": "message", "content": "雪莲花 " * 100}


def response(name: str, **more: Any) -> ResponseRow:
    document = orjson.dumps({"output": [item(f"msg_{name}")]}).decode()
    row = ResponseRow(name, OWNER, "run_1", None, None, "completed", False, "[]", document, 1.0, 2.0)
    return replace(row, **more)


async def test_stored_bytes_include_prompts_apps_evaluations_and_tuning_jobs(database: Database) -> None:
    stored_sums: list[int] = []

    def recounted_specs(connection: Connection) -> int:
        def rows(table: Any, *names: str) -> list[Any]:
            return list(connection.execute(select(*(table.c[name] for name in names))))

        versions = rows(schema.prompts, "spec") + rows(schema.app_versions, "spec")
        recount = (
            versions + rows(schema.evals, "spec", "metadata") + rows(schema.eval_runs, "source", "settings")
        )
        recount += rows(schema.eval_items, "item", "sample") + rows(schema.eval_outputs, "results", "sample")
        recount += rows(schema.eval_searches, "spec") + rows(schema.tuning_jobs, "spec")
        return sum(json_bytes(*row) for row in recount)

    async def check(function: Any, *given: Any) -> None:
        await database.write(function, *given)
        stored_sum, recount = await database.read(
            lambda each: (files.stored_bytes(each, OWNER), recounted_specs(each))
        )
        assert stored_sum == recount, (function, given)
        stored_sums.append(stored_sum)

    def run(name: str) -> NewRun:
        return new_run("eval", name, {}, OWNER, name)

    async with asyncio.timeout(60):
        await check(prompts.save, "greet", OWNER, {"name": "greet", "text": "雪莲花"}, "")
        await check(prompts.save, "greet", OWNER, {"name": "greet", "text": "b" * 900}, "")
        app = AppRow("app_1", "clerk", OWNER, "flow", 1, None, 1.0, 1.0)
        await check(apps.create, app, OWNER, {"step": "a"}, "1", "")
        await check(apps.deploy, "app_1", "flow", OWNER, {"step": "b" * 700}, "2", "", None)
        test = EvalRow("eval_1", OWNER, "test", {"testing_criteria": []}, {"a": "b"}, 1.0, 1.0)
        await check(evals.create, test)
        await check(evals.change, "eval_1", {"metadata": {"a": "c" * 300}})
        eval_run = EvalRunRow("er_1", "eval_1", OWNER, "run_1", "one", {"type": "a"}, "er_1", 2, {}, 1.0)
        items = [ItemRow(0, {"q": "雪" * 50}, None), ItemRow(1, {"q": "b"}, {"text": "c"})]
        await check(evals.begin, eval_run, items, run("run_1"))
        done = OutputRow("er_1", 0, "pass", 1.0, [{"passed": True}], {"text": "d" * 400}, 1, 1.0, 1.0)
        for _ in range(2):
            await check(evals.note, done, lambda tally: tally)
        search = EvalSearchRow("es_1", "eval_1", OWNER, "run_2", "s", {"axes": []}, 2, 1.0)
        trial = replace(
            eval_run, id="er_2", search_id="es_1", data_id="es_1", settings={"k": 1}, run_id="run_2"
        )
        await check(eval_searches.begin_search, search, [trial], items, run("run_2"))
        job: Any = JobRow("ftjob-1", OWNER, "run_3", "b", {"n": 1}, {}, "queued", None, 1.0, None)
        await check(tuning.create, job, run("run_3"), [])
        assert await database.read(tuning.working_of, OWNER) == ["ftjob-1"]
        assert await database.read(tuning.working_of, "key_2") == []

        await database.write(evals.remove_run, "er_1")
        await database.write(evals.remove, "eval_1")
        await database.write(prompts.remove, "prompt")
        assert 0 < await database.read(files.stored_bytes, OWNER) < stored_sums[-1]


async def test_the_stored_byte_sums_equal_a_recount_of_the_rows(database: Database) -> None:
    stored_sums = []

    async def check(function: Any, *given: Any, **more: Any) -> None:
        await database.write(function, *given, **more)
        stored_sum, recount = await database.read(
            lambda each: (files.stored_bytes(each, OWNER), recounted(each))
        )
        assert stored_sum == recount, (function, given)
        stored_sums.append(stored_sum)

    async with asyncio.timeout(60):
        await check(sessions.open_session, KEY, metadata={"desk": "3"})
        await check(sessions.save, KEY, [said("雪莲花"), said("b" * 5_000)], {"": {"n": 2**70}}, "run_1", {})
        await check(sessions.save, KEY, [], {"": {"summary": "short"}}, "run_1", {})
        await check(sessions.rate, KEY.id, 1, {"value": "good", "note": "n" * 900})
        await check(sessions.describe, KEY.id, title="Monday", metadata={"desk": "3", "more": "m" * 700})
        await check(sessions.fork, KEY.id, "conv_f", "tuesday")
        await check(sessions.rate, KEY.id, 1, None)
        await check(sessions.replace, KEY.id, [said("anew")], {"writer": {"a": 1}})
        await check(sessions.reset, "conv_f")
        assert stored_sums[-1] < stored_sums[4]
        await check(sessions.forget, 1e12, 1)

        row = ConversationRow("conv_c", OWNER, {"topic": "bread"}, 0, 1.0, 1.0)
        await check(conversations.add, row, [item("msg_a"), item("msg_b")])
        await check(conversations.ensure, row)
        await check(conversations.ensure, replace(row, id="conv_d", metadata={}))
        await check(conversations.extend, "conv_c", [item("msg_c")], 2)
        await check(conversations.extend, "conv_c", [item("msg_d")], 2)
        await check(conversations.remove_item, "conv_c", "msg_a")
        await check(conversations.remove_item, "conv_c", "msg_a")
        await check(conversations.describe, "conv_c", {})
        await check(responses.keep, response("resp_k", conversation_id="conv_c"), 3)

        queued_response = response(
            "resp_b", status="queued", background=True, finished_at=None, ask='{"a": 1}'
        )
        await check(responses.begin, queued_response)
        await responses.keep_soon(database, response("resp_s"))
        await database.write(responses.append_events, "resp_b", [(0, b"x" * 50)])
        await database.write(responses.note, "resp_b", "in_progress", '{"output": []}')
        task = AgentTaskRow("resp_b", OWNER, "clerk", "ctx", "run_1", "[]", 1.0)
        await database.write(agent_tasks.add, task)
        await database.write(agent_tasks.add_message, "resp_b", {"text": "雪"}, 10)
        end = orjson.dumps({"output": [item("msg_e")]}).decode()
        await check(responses.finish, "resp_b", "completed", end, None, [(1, orjson.dumps(item("msg_e")))])

        for session_id in (KEY.id, "conv_f"):
            await database.write(sessions.replace, session_id, [], {})
        await check(responses.remove, "resp_b")
        await check(responses.forget, 1e12, 10)
        await check(conversations.remove, "conv_c")
        await check(conversations.forget, 1e12, 10)
        await check(sessions.remove, KEY.id)
        await check(sessions.remove, "conv_f")
        assert stored_sums[-1] == 0
