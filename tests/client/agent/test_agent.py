"""`portico.agent.Agent` against a real daemon with scripted models."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import AsyncClient, Client, ConnectionFailed, InvalidRequest, NotFound, PorticoError
from portico.agent import Agent, Handoff, Json, Message, Regex, ToolParser, hooks
from portico.wire import Delta, Finished, StepFinished, StepStarted, ToolCalled, ToolReturned

SCRIPT: list[dict[str, Any]] = [
    *(
        {"match": text, "tool_calls": [{"name": name, "arguments": arguments}], "times": 1}
        for text, name, arguments in (
            (r"add 1\+1", "calculator", {"expression": "1+1"}),
            (r"add 2\+3", "calculator", {"expression": "2+3"}),
            ("ask the expert", "expert", {"message": "why?"}),
        )
    ),
    {"match": "^fail", "error": {"status": 400, "message": "No."}},
    {"match": "^slow", "content": "one two three four five six", "interval": 0.3},
    {"match": "^code", "content": "Look:\n```python\nprint(6 * 7)\n```\n"},
    {
        "match": "^call",
        "content": '```json\n{"name": "calculator", "parameters": {"expression": "6*7"}}\n```\n',
    },
    {"match": "^broken", "content": "```json\n{1\n```\n"},
    {"match": "^person", "content": '{"name": "Ann", "age": 7}'},
    {"match": "^order", "content": "Your number is A-17."},
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    models = [
        {"name": "default", "source": "fake://"},
        {"name": "actor", "source": "fake://", "parameters": {"script": SCRIPT}},
    ]
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(file)) as running:
        yield running


@pytest.fixture(autouse=True)
def _address(served: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_URL", served.url)
    monkeypatch.delenv("PORTICO_API_KEY", raising=False)


def contents(agent: Agent, session: int | str | None = None) -> list[str]:
    return [message.content for message in agent.memory(session)]


class Pair(Agent):
    """Two echoing agents."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.second = Agent(), Agent()

    def forward(self, message: Message, session: str) -> Message:
        return self.second(self.first(message))


class AsyncPair(Pair):
    async def forward(self, message: Message) -> str:  # type: ignore[override]
        answers = await asyncio.gather(self.first.acall(message), self.second.acall(message))
        return "+".join(answer.content for answer in answers)


class TestMemory:
    def test_sessions_are_isolated_and_keep_their_history(self) -> None:
        agent = Agent(name="memo")
        assert agent("hi").content == agent("hi", session=1).content == "hi"
        agent("again")
        assert contents(agent) == ["hi", "hi", "again", "again"] and contents(agent, "1") == ["hi", "hi"]
        assert [message.sender for message in agent.memory(1)] == ["user", "memo"]
        assert contents(Agent(name="memo"), 1) == ["hi", "hi"]

    def test_unnamed_agents_do_not_share_memory(self) -> None:
        first, second = Agent(), Agent()
        first("mine")
        assert contents(second) == [] and contents(first) == ["mine", "mine"]

    def test_reading_makes_no_session(self, served: Daemon) -> None:
        agent = Agent(name="unseen")
        assert agent.memory() == [] and agent.state_dict() == {}
        agent.reset()
        with Client(served.url) as client:
            assert client.sessions.list("unseen") == []

    def test_a_state_dict_loads_back(self) -> None:
        pair = Pair(name="saved")
        pair("hi")
        state = json.loads(json.dumps(pair.state_dict()))
        assert {key for key in state if key != "portico_session"} == {
            "memory",
            "first.memory",
            "second.memory",
        }
        second_pair = Pair(name="loaded")
        second_pair.load_state_dict(state, session="copy")
        assert second_pair.state_dict("copy") == state

    def test_one_agent_of_a_tree_is_saved_and_forgotten_alone(self) -> None:
        pair = Pair(name="part")
        pair("hi")
        first_state = pair.first.state_dict()
        assert [message["content"] for message in first_state["memory"]] == ["hi", "hi"]
        pair.first.reset()
        assert contents(pair.first) == [] and contents(pair.second) == ["hi", "hi"]
        pair.first.load_state_dict(first_state)
        assert pair.first.state_dict() == first_state and contents(pair.second) == ["hi", "hi"]

    def test_a_state_dict_of_another_version_is_refused(self) -> None:
        agent = Agent(name="versions")
        agent("hi")
        with pytest.raises(InvalidRequest, match="version"):
            agent.load_state_dict({"portico_session": 99, "memory": []})
        assert contents(agent) == ["hi", "hi"]


class TestTrees:
    def test_agents_are_named_by_their_attribute_path(self) -> None:
        class Team(Agent):
            def __init__(self) -> None:
                self.pair = Pair()
                self.many = [Agent(), Agent(name="named")]
                self.by_name = {"x": Agent()}

            def forward(self, message: Message) -> Message:
                for agent in (self.pair, *self.many, self.by_name["x"]):
                    message = agent(message)
                return message

        team = Team()
        assert team("hi", session="tree").sender == "by_name-x"
        assert {key for key in team.state_dict("tree") if key.endswith("memory")} == {
            *("memory", "pair.memory", "pair.first.memory", "pair.second.memory"),
            *("many.0.memory", "many.1.memory", "by_name.x.memory"),
        }
        assert [message.sender for message in team.many[1].memory("tree")] == ["many-0", "named"]

    def test_a_back_reference_to_the_parent_agent_causes_no_recursion(self) -> None:
        pair = Pair(name="linked")
        pair.first.team = pair  # type: ignore[attr-defined]
        assert pair("hi").content == "hi" and contents(pair.first) == ["hi", "hi"]
        assert set(pair.state_dict()) == {"portico_session", "memory", "first.memory", "second.memory"}

    def test_a_failed_forward_stores_no_partial_turn_in_the_root_memory(self) -> None:
        class Failing(Agent):
            def __init__(self) -> None:
                self.ok, self.bad = Agent(), Agent("actor")

            def forward(self, message: Message) -> Message:
                self.ok(message)
                return self.bad("fail")

        failing = Failing()
        with pytest.raises(PorticoError, match=r"No\."):
            failing("hi")
        assert contents(failing) == contents(failing.bad) == [] and contents(failing.ok) == ["hi", "hi"]

    def test_an_asynchronous_forward_is_called_from_anywhere(self) -> None:
        pair = AsyncPair(name="both")
        assert pair("a").content == "a+a"

        async def within() -> str:
            return pair("b").content + (await pair.acall("c")).content

        assert asyncio.run(within()) == "b+bc+c"
        assert contents(pair) == ["a", "a+a", "b", "b+b", "c", "c+c"]

    async def test_a_blocking_forward_does_not_block_a_loop(self) -> None:
        pair = Pair(name="threads")
        answers = await asyncio.gather(*(pair.acall(str(n), session=n) for n in range(4)))
        assert [answer.content for answer in answers] == ["0", "1", "2", "3"]

    async def test_a_blocking_call_in_an_async_forward_is_refused_suggesting_acall(self) -> None:
        class Wrong(Agent):
            def __init__(self) -> None:
                self.inner = Agent()

            async def forward(self, message: Message) -> Message:
                return self.inner(message)

        with pytest.raises(InvalidRequest, match="acall"):
            await Wrong().acall("hi")

    async def test_an_agent_uses_the_client_passed_to_it(
        self, served: Daemon, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PORTICO_URL", "http://127.0.0.1:1")
        async with AsyncClient(served.url) as client:
            assert (await Pair(client=client, name="given").acall("hi")).content == "hi"
        with Client(served.url) as blocking:
            assert Pair(client=blocking, name="given")("again").content == "again"
        with pytest.raises(ConnectionFailed):
            Agent()("hi")


class TestFormats:
    def test_a_tool_parser_splits_thought_and_action(self) -> None:
        agent = Agent("actor", output=ToolParser("code interpreter", begin="```python\n", end="\n```\n"))
        assert agent("code").formatted == {
            "tool_type": "code interpreter",
            "thought": "Look:\n",
            "action": "print(6 * 7)",
            "status": 1,
        }
        assert agent("hello").formatted["tool_type"] is None

    def test_a_tool_parser_accepts_each_kind_of_action_validator(self) -> None:
        for validate in ("json", json.loads, lambda text: json.loads(text.rstrip("`"))):
            parser = ToolParser("calculator", begin="```json\n", end="\n```\n", validate=validate)
            assert Agent("actor", output=parser)("call").formatted["action"]["name"] == "calculator"

    def test_a_validator_that_cannot_run_in_the_sandbox_is_refused(self) -> None:
        parser = ToolParser("x", begin="a", end="b", validate=lambda text: os.stat(text))
        with pytest.raises(InvalidRequest, match="sandbox"):
            Agent(output=parser)("hi")

    def test_a_dataclass_can_be_used_as_the_output_format(self) -> None:
        @dataclass
        class Person:
            name: str
            age: int

        assert Agent("actor", output=Person)("person").formatted == {"name": "Ann", "age": 7}
        assert Agent("actor", output=Json())("person").formatted == {"name": "Ann", "age": 7}

    def test_formats_are_tried_in_order(self) -> None:
        agent = Agent("actor", output=[Json(), Regex(r"[A-Z]-(\d+)", 1)])
        assert agent("order").formatted == "17" and agent("person").formatted["age"] == 7


class Stamp(hooks.Hook):
    """A hook that signs everything that passes through it."""

    def before_agent(self, whose: Agent, message: Message, session: str) -> Message:
        return message.but(content=f"[{session}] {message.content}")

    def after_agent(self, whose: Agent, message: Message, session: str) -> Message:
        return message.but(content=f"{message.content} ({whose.name})")


class Tenfold(hooks.Hook):
    """A hook that changes the arguments and the result of a tool call."""

    def before_action(self, whose: Any, message: Message, session: str) -> Message:
        return message.but(content=json.dumps({"expression": "40+2"}))

    def after_action(self, whose: Any, message: Message, session: str) -> Message:
        return message.but(content=f"It is {message.content}!")


class TestHooks:
    def test_custom_hooks_run_in_the_client_process(self) -> None:
        agent = Agent(name="stamped", hooks=[Stamp()])
        assert agent("hi", session="s").content == "[s] hi (stamped)"
        assert contents(agent, "s") == ["[s] hi", "[s] hi"]

    def test_custom_hooks_run_before_and_after_daemon_tools(self) -> None:
        agent = Agent("actor", tools=["calculator"], hooks=[Tenfold()])
        agent("add 1+1")
        assert [message.content for message in agent.memory() if message.type == "tool_result"] == [
            "It is 42!"
        ]

    def test_declarative_hooks_run_in_the_daemon(self) -> None:
        agent = Agent(
            hooks=[
                hooks.Prefix("Say: ", ["user"]),
                hooks.Redact(r"\d+"),
                hooks.Limit(30),
                hooks.Guard("forbidden", "Not here."),
                hooks.Code(lambda message: message["content"].upper()),
            ]
        )
        assert agent("call 12 then 345 or so").content == "SAY: CALL [REDACTED] THEN [RED"
        with pytest.raises(InvalidRequest, match=r"Not here\."):
            agent("forbidden")


class TestStream:
    def test_a_stream_yields_all_events_and_ends_with_the_answer(self) -> None:
        agent = Agent("actor", tools=["calculator"])
        events = list(agent.stream("add 2+3"))
        kinds = [type(event) for _path, event in events]
        assert kinds.index(ToolCalled) < kinds.index(ToolReturned) < kinds.index(Delta)
        assert kinds[-1] is Finished and kinds.count(Finished) == 1
        assert events[-1].event.result.content == agent.memory()[-1].content

    def test_stream_events_carry_the_path_of_their_agent(self) -> None:
        events = [
            (path, type(event))
            for path, event in Pair(name="heard").stream("hi")
            if isinstance(event, StepStarted | StepFinished | Delta | Finished)
        ]
        assert events == [
            *[(path, kind) for path in ("first", "second") for kind in (StepStarted, Delta, StepFinished)],
            ("", Finished),
        ]

    def test_closing_stops_the_turn(self) -> None:
        agent = Agent("actor", name="stopped")
        stream = agent.stream("slow")
        assert any(isinstance(event, Delta) for _path, event in stream)
        stream.close()
        assert agent.memory() == []

    def test_an_error_is_raised(self) -> None:
        with pytest.raises(PorticoError, match=r"No\."):
            list(Agent("actor").stream("fail"))

    async def test_an_async_stream_yields_events_stops_on_close_and_raises_errors(self) -> None:
        stream_items = [item async for item in Pair(name="async-heard").astream("hi")]
        assert [path for path, event in stream_items if isinstance(event, Delta)] == ["first", "second"]
        assert stream_items[-1].event.result.content == "hi"  # type: ignore[union-attr]
        stream = Agent("actor").astream("slow")
        async for _path, event in stream:
            if isinstance(event, Delta):
                break
        await stream.aclose()
        with pytest.raises(PorticoError, match=r"No\."):
            async for _item in Agent("actor").astream("fail"):
                pass


class TestOthers:
    def test_an_agent_is_asked_like_a_tool(self) -> None:
        expert = Agent(name="expert", description="Knows everything.")
        agent = Agent("actor", agents=[expert])
        agent("ask the expert")
        assert [m["content"] for m in agent.state_dict()["expert.memory"]] == ["why?", "why?"]

    def test_handoffs_to_deployed_and_inline_agents_are_stored_in_the_specification(
        self, served: Daemon
    ) -> None:
        with Client(served.url) as client:
            Agent(name="clerk").deploy(client)
            version = Agent(agents=[Handoff("clerk"), Handoff(Agent(name="other"))], name="desk").deploy(
                client
            )
        assert version.spec["agents"][0] == {"agent": "clerk", "as": "handoff"}
        assert version.spec["agents"][1]["agent"]["name"] == "other"

    def test_agents_with_client_side_code_cannot_be_deployed_or_used_as_tools(self, served: Daemon) -> None:
        with Client(served.url) as client, pytest.raises(InvalidRequest, match="the hook Stamp"):
            Agent(name="x", hooks=[Stamp()]).deploy(client)
        with pytest.raises(InvalidRequest, match="serve it"):
            Agent(agents=[Pair()])("hi")


def test_an_unknown_model_raises_not_found_with_its_name() -> None:
    with pytest.raises(NotFound, match="nothing-of-the-kind"):
        Agent("nothing-of-the-kind")("hi")


def test_no_connection_stays_open_after_several_event_loops(tmp_path: Path) -> None:
    pair = AsyncPair(name="loops")
    for number in range(3):
        assert asyncio.run(pair.acall(str(number))).content == f"{number}+{number}"


async def test_a_json_agent_specification_is_checked_and_run_with_sessions(served: Daemon) -> None:
    spec = {"portico_agent": 1, "name": "json", "instructions": "You speak {tongue}."}
    with Client(served.url) as client:
        assert client.agents.check(spec).ok
        checked_spec = client.agents.check({**spec, "tools": ["nothing"]})
        assert checked_spec.error is not None and "agent.tools[0]" in checked_spec.error["message"]
        variables = {"tongue": "Latin"}
        message = client.agents.run(spec, "ave", session=("json", "s"), path="a.b", variables=variables)
        assert message["content"] == "ave" and message["sender"] == "json"
    async with AsyncClient(served.url) as client:
        again = await client.agents.run(spec, "vale", session=("json", "s"), path="a.b", variables=variables)
        [session] = await client.sessions.list("json", name="s")
        assert again["content"] == "vale"
        await client.sessions.add(session.id, [{"content": "noted", "sender": "clerk"}], "a.b")
        rows = await client.sessions.messages(session.id, "a.b", after=2)
        assert [row.message["content"] for row in rows] == ["vale", "vale", "noted"]
        assert (await client.sessions.change(session.id, metadata={"place": "pier"})).metadata == {
            "place": "pier"
        }
        with pytest.raises(NotFound):
            await client.sessions.get("conv_nothing")


@pytest.mark.slow
@pytest.mark.process
def test_a_session_continues_after_the_daemon_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models.yaml"
    file.write_text('models: [{name: default, source: "fake://"}]', encoding="utf-8")
    pair = Pair(name="survivor")
    for text in ("before", "after"):
        with daemons.running(tmp_path / "data", "--file", str(file)) as daemon:
            monkeypatch.setenv("PORTICO_URL", daemon.url)
            assert pair(text, session="s").content == text
            daemon.stop(signal.SIGKILL)
    with daemons.running(tmp_path / "data", "--file", str(file)) as daemon:
        monkeypatch.setenv("PORTICO_URL", daemon.url)
        for agent in (pair, pair.first, pair.second):
            assert contents(agent, "s") == ["before", "before", "after", "after"]


class Shout:
    """A parser in the form that other frameworks use."""

    def format(self) -> str:
        return "Answer in one word."

    def parse(self, text: str) -> str:
        if not text:
            raise ValueError("nothing was said")
        return text.upper()


def test_an_object_with_a_parse_method_is_an_output_format_run_in_the_client() -> None:
    agent = Agent("default", "Repeat.", output=Shout())
    for answer in (agent("hello"), asyncio.run(agent.acall("hello"))):
        assert (answer.content, answer.formatted) == ("hello", "HELLO")
    *_others, last = agent.stream("again")
    assert isinstance(last.event, Finished) and last.event.result.formatted == "AGAIN"
    with pytest.raises(InvalidRequest, match="output format Shout"):
        agent.deploy(name="shout")
    with pytest.raises(InvalidRequest, match="has its own output format"):
        Agent(name="boss", agents=[Agent(name="loud", output=Shout())])("hi")


def test_a_parse_error_of_the_output_format_raises_format_failed() -> None:
    class Never:
        def parse(self, text: str) -> str:
            raise ValueError("no")

    with pytest.raises(InvalidRequest, match="match the format Never: no") as caught:
        Agent("default", output=Never())("hello")
    assert caught.value.code == "format_failed"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [({"aggregate": lambda messages: messages}, "aggregate"), ({"output": object()}, "output")],
)
def test_an_unsupported_agent_argument_is_refused_with_its_name(
    arguments: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest, match=f"'{param}'") as caught:
        Agent("default", **arguments)("hello")
    assert caught.value.param == param
