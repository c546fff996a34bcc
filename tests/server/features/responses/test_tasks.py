"""Tasks of other agents: the messages that a task keeps."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from tests.api_server import api_server

from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.features.responses import tasks
from portico_server.features.responses.tasks import TaskAnswer

ASK = {"op": "approve", "message": "How many?", "answer_schema": {"type": "integer"}}
FLOW = {"portico_flow": 1, "step": {"op": "pipeline", "steps": [ASK, ASK]}}


async def test_a_refused_answer_is_not_added_to_the_messages_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MAX_MESSAGES", 2)
    async with api_server(tmp_path) as server:
        await server.services.apps.deploy("asks", "flow", FLOW, LOCAL)
        agent_tasks = server.services.features.find("responses").tasks
        content = [{"type": "input_text", "text": "x"}]
        task = await agent_tasks.begin("asks", content, {"messageId": "first"}, "", LOCAL)
        task = await agent_tasks.wait_for_settled(task, LOCAL)
        with pytest.raises(InvalidRequest, match="integer"):
            await agent_tasks.answer(task, {"messageId": "refused"}, TaskAnswer(data="many"), LOCAL)
        task = await agent_tasks.answer(task, {"messageId": "second"}, TaskAnswer(data=7), LOCAL)
        assert [message["messageId"] for message in orjson.loads(task.row.messages)] == ["first", "second"]
        task = await agent_tasks.wait_for_settled(task, LOCAL)
        with pytest.raises(Conflict, match="maximum"):
            await agent_tasks.answer(task, {"messageId": "third"}, TaskAnswer(data=7), LOCAL)
        assert (await agent_tasks.get(task.row.id, task.row.app, LOCAL)).state == "input_required"
