"""The five programs of docs/examples/agents, with scripted models, the real sandbox and a small web."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.examples.agents.conftest import GDP

from portico import Client
from portico.agent import Agent, Message, hooks

PNG = b"\x89PNG\r\n\x1a\n"


def program(name: str) -> Any:
    return import_module(name)


def test_the_answer_is_one_of_three_characters(client: Client) -> None:
    agent = program("one_of_three").agent
    answer = agent("今天天气情况")
    assert answer.content in ("典", "孝", "急") and answer.formatted == answer.content
    assert [message.content for message in agent.memory()] == ["今天天气情况", answer.content]


def test_a_few_shot_example_determines_the_answer_format(client: Client) -> None:
    agent = program("weather").agent
    agent._composition = Agent("weather-model", few_shot=agent._composition.few_shot)._composition
    assert agent("昨天天气").content == "【多云转晴，夜间有轻微降温】"


@pytest.mark.parametrize("tool", ["python_light", "code_interpreter"])
def test_the_coder_runs_its_code_and_learns_from_the_error(
    client: Client, tool: str, request: pytest.FixtureRequest
) -> None:
    if tool == "code_interpreter":
        request.getfixturevalue("notebooks")
    coder = program("coder").Coder("coder-model", tool=tool)
    assert coder(program("coder").QUERY).content == "The projection is (1/5, -3/5)."
    senders = [message.sender for message in coder.agent.memory()]
    assert senders == ["user", "agent", "executor", "agent", "executor", "agent"]
    failed_message, worked = (message for message in coder.agent.memory() if message.sender == "executor")
    assert "NameError" in failed_message.content and worked.content.split() == ["1/5", "-3/5"]
    coder.reset()


def test_the_coder_ends_after_three_turns(client: Client) -> None:
    coder = program("coder").Coder("coder-model", tool="python_light")
    last = coder("It never ends.", session="endless")
    assert last.sender == "executor"
    assert sum(message.sender == "agent" for message in coder.agent.memory("endless")) == 3


class Count(hooks.Hook):
    """Counts the turns of an agent that run at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def before_agent(self, whose: Agent, message: Message, session: str) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    def after_agent(self, whose: Agent, message: Message, session: str) -> None:
        self.now -= 1


async def test_five_posts_are_written_at_once(client: Client) -> None:
    blogging = program("blogger")
    blogger = blogging.Blogger("blogger-model")
    count = Count()
    blogger.hooks = [count]
    posts = await blogging.main(blogger)
    assert [post.content for post in posts] == [
        f"A post on <{topic}>, version 4." for topic in blogging.TOPICS
    ]
    assert count.most == 5
    for session, topic in enumerate(blogging.TOPICS):
        state = blogger.state_dict(session)
        assert len(state["writer.memory"]) == 8 and len(state["critic.memory"]) == 6
        writer_messages = [message for message in state["critic.memory"] if message["sender"] == "writer"]
        assert len(writer_messages) == 3
        assert all(
            message["content"].startswith(
                "Reflect and provide critique on the following writing. \n\nA post on"
            )
            for message in writer_messages
        )
        assert all(
            topic in message["content"]
            for name in ("writer", "critic")
            for message in state[f"{name}.memory"]
        )
        assert [message["sender"] for message in state["memory"]] == ["user", "writer"]


def test_a_reset_leaves_no_agent_of_the_tree_behind(client: Client) -> None:
    blogging = program("blogger")
    blogger = blogging.Blogger("blogger-model", max_turn=1)
    blogger(blogging.PROMPT.format(topic="AI"), session="short")
    assert len(blogger.writer.memory("short")) == 4
    blogger.reset("short")
    assert blogger.writer.memory("short") == blogger.critic.memory("short") == blogger.memory("short") == []


@pytest.mark.slow
def test_the_numbers_are_looked_up_and_drawn(client: Client, notebooks: None, tmp_path: Path) -> None:
    charts = program("visualizer")
    visualizer = charts.DataVisualizer("visualizer-model")
    answer = visualizer(charts.QUERY)
    assert answer.content.startswith("Final Answer") and answer.sender == "charter"

    state = visualizer.state_dict()
    executor_outputs = [
        message["content"] for message in state["researcher.memory"] if message["sender"] == "executor"
    ]
    assert len(executor_outputs) == 2 and all(str(value) in executor_outputs[1] for value in GDP.values())
    [chart_message] = [message for message in state["charter.memory"] if message["sender"] == "executor"]
    [picture] = chart_message["extra_info"]["artifacts"]
    assert picture["media_type"] == "image/png"
    [artifact] = [item for item in client.artifacts.list() if item.link == picture["link"]]
    assert client.artifacts.content(artifact.id).startswith(PNG)

    file = tmp_path / "visualizer.json"
    file.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    visualizer.load_state_dict(json.loads(file.read_text(encoding="utf-8")), session="again")
    assert visualizer.state_dict("again") == state
