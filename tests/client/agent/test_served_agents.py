"""Code that runs in the client: functions as tools, executors, and a class with a ``forward``, also under another
name.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import Client, Forbidden, InvalidRequest, PorticoError, ServerFailed, Unavailable
from portico.agent import Agent, Executor, Message, ToolParser, hooks
from portico.functions import Function


def asking(text: str, name: str, /, **arguments: Any) -> dict[str, Any]:
    """Return the script of a model that calls a function once when it reads this text."""
    return {"match": f"^{text}$", "tool_calls": [{"name": name, "arguments": arguments}], "times": 1}


SHEET = {"width": 2, "height": 3}
SCRIPT = [
    *(asking(f"area {number}", "area", of=SHEET) for number in range(5)),
    asking("wrong", "area", of=7),
    asking("fail", "fail"),
    asking("greet", "greet", name="Ann"),
    asking(r"add 1\+1", "calculator", expression="1+1"),
    {"match": "^broken", "content": "```json\n{1\n```\n"},
]
CONFIGURATION = f"""
models:
  - {{name: default, source: "fake://"}}
  - {{name: caller, source: "fake://", parameters: {{script: {json.dumps(SCRIPT)}}}}}
keys:
  - {{name: boss, key: boss-secret-key-of-the-tests, scopes: [admin]}}
  - {{name: one, key: one-secret-key-of-the-tests, scopes: [chat, "apps:*:call", "tools:*:call"]}}
  - {{name: two, key: two-secret-key-of-the-tests, scopes: [chat, "apps:*:call", "tools:*:call"]}}
  - {{name: poor, key: poor-secret-key-of-the-tests, scopes: [chat, "apps:*:call"]}}
"""


class Echoes(Agent):
    """Says everything twice.

    More about it.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client=client)
        self.inner = Agent()

    def forward(self, message: Message) -> str:
        if message.content == "fail":
            raise ValueError("The well is dry.")
        return self.inner(message).content * 2


@dataclass
class Sheet:
    """A piece of paper."""

    width: int
    height: int


def area(of: Sheet) -> int:
    """How large something is.

    of: what is measured
    """
    return of.width * of.height


def fail() -> None:
    raise ValueError("The well is dry.")


async def greet(name: str) -> dict[str, str]:
    """Say hello."""
    await asyncio.sleep(0)
    return {"said": f"Hello {name}"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    file = home / "keys.yaml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    env = {"PORTICO_REQUIRE_KEY": "true"}
    with daemons.running(home / "data", "--file", str(file), env=env) as running:
        yield running


def client_of(api: Daemon, name: str) -> Client:
    return Client(api.url, f"{name}-secret-key-of-the-tests")


@pytest.fixture(scope="module")
def boss(api: Daemon) -> Iterator[Client]:
    with client_of(api, "boss") as client:
        yield client


@pytest.fixture
def echoes(boss: Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[Echoes]:
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)
    agent = Echoes(boss)
    with serving(boss, agent, "echoes"):
        yield agent


@contextmanager
def serving(client: Client, agent: Agent, name: str) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=agent.serve, args=(client, name), kwargs={"stop": stop})
    thread.start()
    try:
        awaited = {function.name for function in agent.served(name)}
        while not awaited <= {tool.name for tool in client.tools.list()}:
            assert thread.is_alive()
        yield
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def say(api: Daemon, key: str, text: str, **options: Any) -> str:
    with client_of(api, key) as client:
        return client.chat(text, "echoes", **options).read().text


def test_a_served_agent_answers_and_is_listed_with_its_description(
    api: Daemon, boss: Client, echoes: Echoes
) -> None:
    assert say(api, "boss", "hi", user="a") == "hihi"
    [app] = [app for app in boss.apps.list() if app.name == "echoes"]
    assert app.kind == "agent" and app.description == "Says everything twice."
    assert boss.apps.run("echoes", "ho", session="b")["content"] == "hoho"


def test_sessions_of_different_keys_never_meet(api: Daemon, boss: Client, echoes: Echoes) -> None:
    assert say(api, "one", "mine", user="x") == "minemine"
    assert say(api, "two", "yours", user="x") == "yoursyours"
    names = [session.name for session in boss.sessions.list("Echoes") if session.name.endswith("/x")]
    assert len(set(names)) == 2
    message_texts = sorted([message.content for message in echoes.inner.memory(name)] for name in names)
    assert message_texts == [["mine", "mine"], ["yours", "yours"]]


def test_calls_without_a_session_stand_alone(api: Daemon, echoes: Echoes, boss: Client) -> None:
    session_count = len(boss.sessions.list("Echoes"))
    assert say(api, "boss", "a") == "aa" and say(api, "boss", "b") == "bb"
    assert len(boss.sessions.list("Echoes")) == session_count + 2


def test_an_exception_in_a_served_agent_is_reported_to_the_caller(api: Daemon, echoes: Echoes) -> None:
    with pytest.raises(ServerFailed, match=r"The well is dry\."):
        say(api, "boss", "fail")


def test_a_key_that_may_not_use_the_function_is_refused(api: Daemon, echoes: Echoes) -> None:
    with pytest.raises(PorticoError, match="echoes_forward") as caught:
        say(api, "poor", "hi")
    assert isinstance(caught.value, Forbidden | Unavailable)


def test_a_call_to_an_agent_without_a_serving_process_fails_as_not_served(api: Daemon, boss: Client) -> None:
    Echoes(boss).deploy(boss, "echoes")
    with pytest.raises(Unavailable, match=r"is not running\. Restart that program") as caught:
        say(api, "boss", "hi")
    assert caught.value.code == "not_served"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"forward": "f"}, "portico_agent"),
        ({"portico_agent": 2, "forward": "f"}, "portico_agent"),
        ({"portico_agent": 1, "forward": ""}, "forward"),
        ({"portico_agent": 1, "forward": "f", "tools": []}, "tools"),
    ],
)
def test_an_invalid_agent_specification_is_refused_with_the_field_name(
    boss: Client, spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        boss.apps.deploy("wrong", spec, kind="agent")


async def test_python_functions_are_agent_tools_executed_in_the_client(boss: Client) -> None:
    agent = Agent("caller", name="surveyor", tools=[area, fail, greet], client=boss)

    def returned() -> str:
        return next(str(m.content) for m in reversed(agent.memory()) if m.type == "tool_result")

    agent("area 0")
    assert returned() == "6"
    agent("fail")
    assert "The well is dry" in returned()
    agent("wrong")
    assert "Invalid arguments at .of: 7 is not of type 'object'" in returned()
    await agent.acall("greet")
    assert returned() == '{"said":"Hello Ann"}'
    above = Agent(agents=[Agent("caller", name="inner", tools=[greet])], client=boss)
    assert above.specified("").tools.keys() == {"greet"}
    tool_spec = agent.spec["tools"][0]
    assert tool_spec["description"] == "How large something is." and tool_spec["parameters"]["required"] == [
        "of"
    ]


def test_served_functions_of_a_deployed_agent_are_available_to_every_caller(
    api: Daemon, boss: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)
    agent = Agent("caller", name="surveyor", tools=[Function.of(area, read_only=True)])
    (warning,) = agent.deploy(boss).warnings
    assert "function 'area', which no worker currently serves: run portico serve FILE.py:surveyor" in warning

    def ask(key: str, text: str) -> str:
        with client_of(api, key) as client:
            client.chat(text, "surveyor", conversation=text).read()
            [session] = client.sessions.list("surveyor", name=text)
            messages = [item.message for item in client.sessions.messages(session.id)]
        return next(str(item["content"]) for item in messages if item["type"] == "tool_result")

    assert "No client currently serves the function 'area'" in ask("boss", "area 1")
    with serving(boss, agent, "surveyor"):
        assert ask("boss", "area 2") == ask("one", "area 3") == "6"
        assert "'area' failed" in ask("poor", "area 4")
    with pytest.raises(InvalidRequest, match="runs entirely in the daemon"):
        Agent(name="all").serve(boss)


def test_invalid_agent_tools_are_refused(boss: Client) -> None:
    for tools, message_pattern in (
        ([7], "is not a tool"),
        ([area, Function(name="area", call=fail)], "Two functions"),
    ):
        with pytest.raises(InvalidRequest, match=message_pattern):
            Agent(tools=tools, client=boss)("hi")  # type: ignore[arg-type]
    spec_check = boss.agents.check(
        {"portico_agent": 1, "tools": [{"function": "f", "parameters": {"type": 7}}]}
    )
    assert spec_check.error is not None and spec_check.error["param"] == "agent.tools[0].parameters"


def test_an_action_is_carried_out_and_answered_as_a_message(boss: Client) -> None:
    executor = Executor(["calculator", "python_light"], client=boss)
    called = executor(Message({"name": "calculator", "parameters": {"expression": "6*7"}}))
    assert called.content == "42" and called.sender == "executor"
    coded = executor(Message("…", formatted={"tool_type": "x", "action": "6 * 7", "status": 1}))
    assert "42" in coded.content


def test_an_executor_returns_errors_as_answer_messages(boss: Client) -> None:
    executor = Executor(["calculator"], client=boss)
    for message, error_text in (
        (Message({"name": "sql", "parameters": {}}), "Unknown tool 'sql'. Tools are: calculator."),
        (Message({"name": "calculator", "parameters": []}), "'expression'"),
        (Message({"name": "calculator", "parameters": "6*7"}), "must be an object"),
        (Message("hello"), "The message contains no action"),
    ):
        answer = executor(message)
        assert (
            error_text in answer.content and answer.extra_info is not None and answer.extra_info["is_error"]
        )


async def test_an_executor_runs_sync_and_async_python_functions(boss: Client) -> None:
    def add(a: int, b: int = 1) -> int:
        return a + b

    async def hello(name: str) -> dict[str, str]:
        return {"said": f"Hello {name}"}

    executor = Executor([add, hello, "calculator"], client=boss)
    assert executor.tools == ("add", "hello", "calculator")
    adding = Message({"name": "add", "parameters": {"a": 41}})
    assert executor(adding).content == (await executor.acall(adding)).content == "42"
    greeting = Message({"name": "hello", "parameters": {"name": "Ann"}})
    assert executor(greeting).formatted == (await executor.acall(greeting)).formatted == {"said": "Hello Ann"}
    wrong = executor(Message({"name": "add", "parameters": {"c": 1}}))
    assert "'add' failed: TypeError" in wrong.content and wrong.extra_info == {
        "tool": "add",
        "is_error": True,
    }


def test_an_action_that_is_not_valid_goes_back_with_the_reason(boss: Client) -> None:
    parser = ToolParser("calculator", begin="```json\n", end="\n```\n", validate="json")
    message = Agent("caller", output=parser, client=boss)("broken")
    assert message.formatted["status"] == -1
    assert "not JSON" in Executor(["calculator"], client=boss)(message).content


class Noted(hooks.Hook):
    """A hook that records everything it is shown."""

    def __init__(self) -> None:
        self.before: list[Any] = []
        self.after: list[Any] = []

    def before_action(self, whose: Any, message: Message, session: str) -> None:
        self.before.append(message.content)

    def after_action(self, whose: Any, message: Message, session: str) -> None:
        self.after.append(message.content)


def test_hooks_receive_the_same_action_messages_in_agents_and_executors(boss: Client) -> None:
    recording_hooks = Noted()
    Executor(["calculator"], hooks=[recording_hooks], client=boss)(
        Message({"name": "calculator", "parameters": {"expression": "1+1"}})
    )
    Agent("caller", tools=["calculator"], hooks=[recording_hooks], client=boss)("add 1+1")
    assert recording_hooks.before == [{"name": "calculator", "parameters": {"expression": "1+1"}}] * 2
    assert recording_hooks.after == ["2", "2"]


def test_an_executor_accepts_the_same_tool_and_hook_specifications_as_an_agent(boss: Client) -> None:
    executor = Executor(
        [{"tool": "calculator", "as": "sum"}],
        hooks=[
            hooks.Redact("7", "6", on="before_action"),
            {"on": "after_action", "do": "prefix", "text": "It is "},
            hooks.Code(lambda message: message["content"] + "!", on="after_action"),
        ],
        client=boss,
    )
    assert executor.tools == ("sum",)
    assert executor(Message({"name": "sum", "parameters": {"expression": "7*7"}})).content == "It is 36!"
    for hook, message_pattern in (
        ({"do": "dance"}, "'do' must be one of"),
        (hooks.Code("lambda m: m"), "needs the function itself"),
    ):
        with pytest.raises(InvalidRequest, match=message_pattern):
            Executor(["calculator"], hooks=[hook], client=boss)
    guarded = Executor(["calculator"], hooks=[hooks.Guard("9", on="before_action")], client=boss)
    with pytest.raises(InvalidRequest, match="A guard refused"):
        guarded(Message({"name": "calculator", "parameters": {"expression": "9"}}))


def test_two_objects_of_one_name_do_not_share_a_session(boss: Client) -> None:
    first, second = (Agent("caller", name="same", client=boss) for _ in range(2))
    first("Good morning")
    assert [message.content for message in first.memory()] == ["Good morning"] * 2
    assert second.memory() == []
    first("kept", session="ada")
    assert [message.content for message in second.memory("ada")] == ["kept"] * 2


async def test_executor_hooks_change_messages_in_sync_and_async_calls(boss: Client) -> None:
    class Code(hooks.Hook):
        def before_action(self, whose: Executor, message: Message, session: str) -> Message:
            return message.but(
                content={"name": "python_light", "parameters": {"code": message.formatted["action"]}}
            )

        def after_action(self, whose: Executor, message: Message, session: str) -> Message:
            return message.but(content=f"{session}: {message.content}")

    executor = Executor(["python_light"], hooks=[Code()], client=boss)
    message = Message("…", formatted={"action": "print('x')"})
    assert (
        (await executor.acall(message, session=5)).content == executor(message, session=5).content == "5: x"
    )
