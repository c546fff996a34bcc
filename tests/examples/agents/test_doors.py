"""Each of the five programs through `openai` alone, by its name and a conversation, and through MCP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import openai
import pytest
from mcp import Client as McpClient
from tests.daemon import Daemon

from portico import Client
from portico.agent import Agent
from portico.agent.agent import function_name


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the programs notice a stop request immediately."""
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)


@contextmanager
def serving(client: Client, agent: Agent, name: str) -> Iterator[None]:
    """Run a program that answers for a deployed agent until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=agent.serve, args=(client, name), kwargs={"stop": stop})
    thread.start()
    try:
        while function_name(name) not in {tool.name for tool in client.tools.list()}:
            assert thread.is_alive()
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def chat(stage: Daemon, model: str, text: str, **extra: Any) -> str:
    with openai.OpenAI(base_url=f"{stage.url}/v1", api_key="none", max_retries=0) as caller:
        reply = caller.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], extra_body=extra
        )
    return reply.choices[0].message.content or ""


async def call(stage: Daemon, name: str, text: str, conversation: str) -> str:
    async with McpClient(f"{stage.url}/mcp") as assistant:
        result = await assistant.call_tool(name, {"question": text, "conversation": conversation})
    assert not result.is_error and result.structured_content is not None
    return str(result.structured_content["answer"])


async def test_the_one_of_three_agent_answers_through_openai_and_mcp(client: Client, stage: Daemon) -> None:
    import_module("one_of_three").agent.deploy(client, "three")
    assert chat(stage, "three", "今天天气情况", user="a") in "典孝急"
    assert await call(stage, "three", "明天呢", "a") in "典孝急"
    [session] = client.sessions.list("three")
    assert [item.message["sender"] for item in client.sessions.messages(session.id)] == ["user", "three"] * 2


async def test_the_weather_agent_answers_through_openai_and_mcp(client: Client, stage: Daemon) -> None:
    few_shot = import_module("weather").agent._composition.few_shot
    Agent("weather-model", few_shot=few_shot, name="weather").deploy(client)
    assert chat(stage, "weather", "昨天天气", conversation={"id": "w"}).startswith("【")
    assert (await call(stage, "weather", "昨天天气", "w")).startswith("【")
    [session] = client.sessions.list("weather", name="w")
    assert len(client.sessions.messages(session.id)) == 4


async def test_the_coder_agent_answers_through_openai_and_mcp_while_it_is_served(
    client: Client, stage: Daemon
) -> None:
    coding = import_module("coder")
    coder = coding.Coder("coder-model", tool="python_light")
    with serving(client, coder, "coder"):
        assert chat(stage, "coder", coding.QUERY, user="c") == "The projection is (1/5, -3/5)."
        assert await call(stage, "coder", coding.QUERY, "m") == "The projection is (1/5, -3/5)."
    assert len(coder.agent.memory("c")) == len(coder.agent.memory("m")) == 6
    with pytest.raises(openai.InternalServerError, match="serves the agent 'coder' is not running"):
        chat(stage, "coder", coding.QUERY)


async def test_the_blogger_agent_answers_through_openai_and_mcp(client: Client, stage: Daemon) -> None:
    blogging = import_module("blogger")
    blogger = blogging.Blogger("blogger-model")
    with serving(client, blogger, "blogger"):
        prompt = blogging.PROMPT.format(topic="Tea")
        assert chat(stage, "blogger", prompt, conversation="tea") == "A post on <Tea>, version 4."
        assert await call(stage, "blogger", prompt, "more tea") == "A post on <Tea>, version 4."
    for session in ("tea", "more tea"):
        assert len(blogger.writer.memory(session)) == 8 and len(blogger.critic.memory(session)) == 6


@pytest.mark.slow
async def test_the_visualizer_agent_answers_through_openai_and_mcp(
    client: Client, stage: Daemon, notebooks: None
) -> None:
    charts = import_module("visualizer")
    visualizer = charts.DataVisualizer("visualizer-model")
    with serving(client, visualizer, "visualizer"):
        assert chat(stage, "visualizer", charts.QUERY, user="v").startswith("Final Answer")
        assert (await call(stage, "visualizer", charts.QUERY, "w")).startswith("Final Answer")
    assert len(visualizer.charter.memory("v")) == 4
