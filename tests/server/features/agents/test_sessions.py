"""Agents and their sessions over HTTP: the native API, OpenAI's client, MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp import Client as McpClient
from openai import BadRequestError, OpenAI
from tests.daemon import Daemon
from tests.server.features.agents.agent_fixture import AgentFixture

from portico.client import Client
from portico_server.core.errors import Conflict
from portico_server.core.principal import LOCAL
from portico_server.features.agents.message import AgentMessage
from portico_server.runs.quotas import StorageQuota

SCRIPT: list[dict[str, Any]] = [
    {"match": "sum", "tool_calls": [{"name": "calculator", "arguments": {"expression": "40+2"}}], "times": 1},
    {"match": "sum", "content": "It is 42."},
    {"match": "add", "tool_calls": [{"name": "calculator", "arguments": {"expression": "40+2"}}], "times": 1},
    {"match": "add", "content": "It is 42."},
]


@pytest.fixture(scope="module")
def http(daemon: Daemon) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=daemon.url, timeout=60) as client:
        model = {"name": "clerk", "source": "fake://", "parameters": {"script": SCRIPT}}
        client.post("/api/deployments", json=model).raise_for_status()
        for name, spec in (
            ("desk", {"instructions": "Be kind.", "description": "Helps."}),
            ("reckoner", {"model": "clerk", "tools": ["calculator"]}),
        ):
            app = {"name": name, "kind": "agent", "spec": {"portico_agent": 1, **spec}}
            client.post("/api/apps", json=app).raise_for_status()
        yield client


@pytest.fixture(scope="module")
def openai(daemon: Daemon) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(daemon: Daemon, http: httpx.Client) -> Iterator[httpx.Client]:
    with Client(daemon.url) as admin:
        key = admin.keys.add("stranger", ["chat", "models:read", "apps:*:call"])
        with httpx.Client(base_url=daemon.url, headers={"Authorization": f"Bearer {key.key}"}) as client:
            yield client
        admin.keys.revoke(key.id)


def run(http: httpx.Client, url: str, **body: Any) -> list[dict[str, Any]]:
    answer = http.post(url, json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data:")]


def spec(**fields: Any) -> dict[str, Any]:
    return {"portico_agent": 1, **fields}


def opened(http: httpx.Client, name: str, app: str = "api") -> dict[str, Any]:
    session: dict[str, Any] = http.post("/api/sessions", json={"app": app, "name": name}).json()
    return session


def test_an_undeployed_agent_runs_with_streamed_events_and_a_session(http: httpx.Client) -> None:
    events = run(
        http,
        "/api/agents/run",
        agent=spec(name="writer", instructions="On {topic}.", model="clerk", tools=["calculator"]),
        message={"sender": "user", "content": "what is the sum"},
        session={"app": "Blogger", "name": "0"},
        path="writer",
        variables={"topic": "tides"},
    )
    kinds = [event["type"] for event in events]
    assert [kind for kind in kinds if kind != "status"] == [
        *("tool_called", "step_started", "step_finished", "tool_returned"),
        *("delta", "delta", "delta", "usage", "finished"),
    ]
    assert next(e["text"] for e in events if e["type"] == "tool_returned") == "42"
    assert events[-1]["result"]["sender"] == "writer" and events[-1]["result"]["content"] == "It is 42."
    session = opened(http, "0", "Blogger")
    state = http.get(f"/api/sessions/{session['id']}/state").json()
    assert state["portico_session"] == 1 and len(state["writer.memory"]) == 4


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"agent": {}, "message": "x"}, "agent.portico_agent"),
        ({"agent": {"portico_agent": 1}, "message": 3}, "message"),
        ({"agent": {"portico_agent": 1, "model": "no-such"}, "message": "x"}, "model"),
        ({"agent": {"portico_agent": 1}, "message": "x", "session": {"app": "a", "name": ""}}, "session"),
        ({"agent": {"portico_agent": 1}, "message": "x", "sesion": {}}, "sesion"),
    ],
)
def test_an_invalid_run_request_is_refused_with_the_name_of_its_field(
    http: httpx.Client, body: dict[str, Any], param: str
) -> None:
    answer = http.post("/api/agents/run", json=body)
    assert answer.status_code in (400, 404) and answer.json()["error"]["param"] == param


def test_an_agent_is_checked_without_running_it(http: httpx.Client) -> None:
    assert http.post("/api/agents/check", json={"agent": spec(name="a")}).json() == {
        "ok": True,
        "name": "a",
        "error": None,
    }
    wrong = spec(agents=[{"agent": {"name": "b", "tools": ["calculater"]}}])
    error = http.post("/api/agents/check", json={"agent": wrong}).json()["error"]
    assert error["param"] == "agent.agents[0].agent.tools[0]" and "calculator" in error["message"]
    hook = spec(hooks=[{"on": "before_agent", "do": "code", "source": "not code"}])
    assert (
        http.post("/api/agents/check", json={"agent": hook}).json()["error"]["param"]
        == "agent.hooks[0].source"
    )


def test_deploying_an_agent_with_a_missing_model_is_refused(http: httpx.Client) -> None:
    app = {"name": "lost", "kind": "agent", "spec": spec(model="nowhere")}
    answer = http.post("/api/apps", json=app)
    assert answer.status_code == 404 and answer.json()["error"]["param"] == "agent.model"


def test_an_openai_client_continues_a_conversation_by_name_id_or_user(
    openai: OpenAI, http: httpx.Client
) -> None:
    def say(text: str, **more: Any) -> str:
        answer = openai.chat.completions.create(
            model="desk", messages=[{"role": "user", "content": text}], **more
        )
        return answer.choices[0].message.content or ""

    assert say("one", extra_body={"conversation": "c1"}) == "one"
    assert say("two", extra_body={"conversation": {"id": "c1"}}) == "two"
    assert say("three", user="c1") == "three"
    session = opened(http, "c1", "desk")
    say("four", extra_body={"conversation": session["id"]})
    rows = http.get(f"/api/sessions/{session['id']}/messages").json()["data"]
    assert [item["message"]["content"] for item in rows if item["message"]["sender"] == "user"] == [
        *("one", "two", "three", "four")
    ]


def test_a_session_without_a_name_is_continued_by_its_id(openai: OpenAI, http: httpx.Client) -> None:
    session = http.post("/api/sessions", json={"app": "desk"}).json()
    assert session["name"] == session["id"]
    messages: Any = [{"role": "user", "content": "hello"}]
    openai.chat.completions.create(
        model="desk", messages=messages, extra_body={"conversation": {"id": session["id"]}}
    )
    stored_messages = http.get(f"/api/sessions/{session['id']}/messages").json()["data"]
    assert [item["message"]["content"] for item in stored_messages] == ["hello", "hello"]


def test_without_a_conversation_the_agent_sees_only_the_sent_messages(
    openai: OpenAI, http: httpx.Client
) -> None:
    count_before = len(http.get("/api/sessions").json()["data"])
    answer = openai.chat.completions.create(
        model="desk",
        messages=[
            {"role": "system", "content": "Short."},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ],
        temperature=0,
    )
    assert answer.choices[0].message.content == "c"
    assert answer.usage is not None and answer.usage.prompt_tokens >= 6
    assert len(http.get("/api/sessions").json()["data"]) == count_before


def test_the_agents_own_tool_calls_are_hidden_from_an_openai_client(openai: OpenAI) -> None:
    stream = openai.chat.completions.create(
        model="reckoner",
        messages=[{"role": "user", "content": "add them"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "It is 42."
    assert not any(choice.delta.tool_calls for choice in choices)
    assert choices[-1].finish_reason == "stop" and chunks[-1].usage is not None


@pytest.mark.parametrize("field", ["tools", "response_format"])
def test_fields_fixed_by_the_agents_specification_are_refused_in_a_request(
    openai: OpenAI, field: str
) -> None:
    request_fields: Any = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "response_format": {"type": "json_object"},
    }
    with pytest.raises(BadRequestError, match=field):
        openai.chat.completions.create(
            model="desk", messages=[{"role": "user", "content": "x"}], **{field: request_fields[field]}
        )


def test_a_deployed_agent_runs_with_its_input_and_a_session(http: httpx.Client) -> None:
    for text in ("one", "two"):
        events = run(http, "/api/apps/desk/run", input={"message": text}, session="runs")
        assert events[-1]["result"]["content"] == text and events[-1]["result"]["sender"] == "desk"
    events = run(http, "/api/apps/desk/run", messages=[{"role": "user", "content": "three"}], session="runs")
    assert events[-1]["result"]["content"] == "three"
    session = opened(http, "runs", "desk")
    assert len(http.get(f"/api/sessions/{session['id']}/messages").json()["data"]) == 6


@pytest.mark.usefixtures("http")
async def test_an_agent_is_a_tool_over_mcp_with_a_conversation(daemon: Daemon) -> None:
    async with McpClient(f"{daemon.url}/mcp/apps/desk") as client:
        (tool,) = (await client.list_tools()).tools
        assert "conversation" in tool.input_schema["properties"]
        for text in ("one", "two"):
            result = await client.call_tool(tool.name, {"question": text, "conversation": "m"})
            assert result.structured_content is not None and result.structured_content["answer"] == text
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
        session = (await http.post("/api/sessions", json={"app": "desk", "name": "m"})).json()
        messages = (await http.get(f"/api/sessions/{session['id']}/messages")).json()["data"]
    assert [item["message"]["content"] for item in messages] == ["one", "one", "two", "two"]


# --- sessions ----------------------------------------------------------------------------------------------------


def talk(http: httpx.Client, name: str, *texts: str, app: str = "api", path: str = "") -> dict[str, Any]:
    for text in texts:
        run(
            http, "/api/agents/run", agent=spec(), message=text, session={"app": app, "name": name}, path=path
        )
    return opened(http, name, app)


def test_a_session_is_opened_once_and_described(http: httpx.Client) -> None:
    body = {"app": "api", "name": "opened", "title": "First", "metadata": {"a": 1}}
    session = http.post("/api/sessions", json=body).json()
    assert session["id"].startswith("conv_") and (session["title"], session["metadata"]) == (
        "First",
        {"a": 1},
    )
    assert http.post("/api/sessions", json={**body, "title": "Other"}).json() == session
    updated_session = http.patch(f"/api/sessions/{session['id']}", json={"title": "Renamed"}).json()
    assert (updated_session["title"], updated_session["metadata"]) == ("Renamed", {"a": 1})
    nameless = http.post("/api/sessions", json={"app": "api"}).json()
    assert nameless["name"] == nameless["id"]
    for name in ("conv_mine", "x" * 257, "a\nb"):
        assert http.post("/api/sessions", json={"app": "api", "name": name}).status_code == 400


def test_sessions_are_filtered_by_app_name_and_message_text(http: httpx.Client) -> None:
    first_session = talk(http, "w1", "Sunny in Lisbon 100%", app="weather")
    two = talk(http, "w2", "今天天气", app="weather")
    parts = [{"type": "text", "text": "明天 rain"}]
    three = talk(http, "w3", parts, app="weather")  # type: ignore[arg-type]

    def listed(**query: str) -> list[str]:
        sessions = http.get("/api/sessions", params={"app": "weather", **query}).json()["data"]
        return [item["id"] for item in sessions]

    assert listed() == [three["id"], two["id"], first_session["id"]], "the one used last first"
    assert listed(name="w1") == [first_session["id"]]
    assert listed(search="lisbon") == [first_session["id"]]
    assert listed(search="天气") == [two["id"]]
    assert listed(search="明天") == [three["id"]]
    assert listed(search="0%") == [first_session["id"]] and listed(search="_unny") == []
    assert listed(search="sender") == [], "what is looked for is what was said"
    assert listed(limit="1") == [three["id"]]


def test_messages_are_read_by_agent_and_in_pages(http: httpx.Client) -> None:
    talk(http, "paged", "w", path="writer")
    session = talk(http, "paged", "a", "b")
    path = f"/api/sessions/{session['id']}/messages"
    full_page = http.get(path).json()
    assert [item["agent"] for item in full_page["data"]] == ["writer", "writer", "", "", "", ""]
    assert full_page["has_more"] is False and all(
        item["run"].startswith("run_") for item in full_page["data"]
    )
    root = http.get(path, params={"agent": ""}).json()["data"]
    assert [item["message"]["content"] for item in root] == ["a", "a", "b", "b"]
    first = http.get(path, params={"limit": 4}).json()
    assert first["has_more"] is True
    second_page = http.get(path, params={"after": first["data"][-1]["seq"]}).json()
    assert [*first["data"], *second_page["data"]] == full_page["data"]


@pytest.mark.slow
def test_a_page_of_messages_is_bounded_in_size_and_the_sdk_reads_all_pages(
    http: httpx.Client, daemon: Daemon
) -> None:
    session = opened(http, "large")
    path = f"/api/sessions/{session['id']}"
    long = [letter * 5_000_000 for letter in "abc"] + ["d" * 9_000_000] + ["e"]
    for part in (long[:3], long[3:]):
        http.post(f"{path}/messages", json={"messages": part}).raise_for_status()
    pages, last_seq, has_more = [], 0, True
    while has_more:
        page = http.get(f"{path}/messages", params={"after": last_seq}).json()
        pages.append([item["message"]["content"][0] for item in page["data"]])
        last_seq, has_more = page["data"][-1]["seq"], page["has_more"]
    assert pages == [["a"], ["b"], ["c"], ["d"], ["e"]]
    with Client(daemon.url) as client:
        for limit, letters in ((None, "abcde"), (1000, "abcde"), (2, "ab")):
            messages = client.sessions.messages(session["id"], limit=limit)
            assert "".join(item.message["content"][0] for item in messages) == letters
    fork = http.post(f"{path}/fork", json={}).json()
    copied = http.get(f"/api/sessions/{fork['id']}/messages", params={"after": 3}).json()
    assert [item["message"]["content"][0] for item in copied["data"]] == ["d"]
    assert len(http.get(f"{path}/state").json()["memory"]) == 5
    http.post(f"{path}/messages", json={"messages": long[:2]}).raise_for_status()
    refusal = http.get(f"{path}/state")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "session_too_large")
    http.delete(path)
    http.delete(f"/api/sessions/{fork['id']}")


def test_a_page_of_ratings_is_bounded_in_size_and_the_sdk_reads_all_pages(
    http: httpx.Client, daemon: Daemon
) -> None:
    session = opened(http, "large answers")
    path = f"/api/sessions/{session['id']}"
    for letter, chars in (("a", 5_000_000), ("b", 5_000_000), ("c", 9_000_000)):
        message_data = [letter * chars, {"sender": "large clerk", "content": letter}]
        http.post(f"{path}/messages", json={"messages": message_data}).raise_for_status()
    for seq in (2, 4, 6):
        http.put(f"{path}/messages/{seq}/rating", json={"value": "good"}).raise_for_status()
    pages, query = [], {"model": "large clerk"}
    while len(pages) < 4:
        page = http.get("/api/ratings", params=query).json()
        pages.append(
            [
                (item["answer"], [message_data["content"][0] for message_data in item["messages"]])
                for item in page["data"]
            ]
        )
        if not page["has_more"]:
            break
        query["after"] = page["data"][-1]["id"]
    assert pages == [[("a", ["a"])], [("b", ["a", "b"]), ("c", [])]]
    with Client(daemon.url) as client:
        for limit, answers in ((100, "abc"), (2, "ab")):
            ratings = client.sessions.ratings(model="large clerk", limit=limit)
            assert "".join(str(item.answer) for item in ratings) == answers
    http.delete(path)


def test_added_messages_are_appended_to_the_memory_of_an_agent(http: httpx.Client) -> None:
    session = talk(http, "added", "a")
    path = f"/api/sessions/{session['id']}"
    new_messages = {"messages": [{"sender": "critic", "content": "b"}, "c"], "agent": "critic"}
    assert http.post(f"{path}/messages", json=new_messages).status_code == 200
    state = http.get(f"{path}/state").json()
    assert [m["sender"] for m in state["critic.memory"]] == ["critic", "user"] and len(state["memory"]) == 2
    wrong = http.post(f"{path}/messages", json={"messages": [3]})
    assert wrong.status_code == 400 and wrong.json()["error"]["code"] == "invalid_message"


def test_messages_after_a_fork_do_not_reach_the_original_session(http: httpx.Client) -> None:
    session = talk(http, "trunk", "a")
    http.patch(f"/api/sessions/{session['id']}", json={"title": "T"})
    fork = http.post(f"/api/sessions/{session['id']}/fork", json={"name": "branch"}).json()
    assert (fork["name"], fork["title"]) == ("branch", "T")
    talk(http, "branch", "b")
    talk(http, "trunk", "c")

    def said(found: dict[str, Any]) -> list[str]:
        data = http.get(f"/api/sessions/{found['id']}/messages").json()["data"]
        return [item["message"]["content"] for item in data]

    assert said(fork) == ["a", "a", "b", "b"] and said(session) == ["a", "a", "c", "c"]
    conflict = http.post(f"/api/sessions/{session['id']}/fork", json={"name": "branch"})
    assert conflict.status_code == 409 and conflict.json()["error"]["code"] == "name_taken"
    assert http.post(f"/api/sessions/{session['id']}/fork", json={}).json()["name"].startswith("conv_")


async def test_one_of_two_concurrent_forks_with_the_same_name_is_refused(
    agent_fixture: AgentFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = agent_fixture.sessions
    trunk = await sessions.open("app", "trunk", LOCAL)
    await sessions.add(trunk.id, LOCAL, [AgentMessage("user", "a")])
    both_checked = asyncio.Barrier(2)

    async def admit(*_arguments: Any) -> None:
        await both_checked.wait()

    monkeypatch.setattr(StorageQuota, "admit", admit)
    forks = await asyncio.gather(
        *(sessions.fork(trunk.id, LOCAL, "branch") for _ in range(2)), return_exceptions=True
    )
    [conflict] = [fork for fork in forks if isinstance(fork, Conflict)]
    assert conflict.code == "name_taken"
    [branch] = (await sessions.list(LOCAL, name="branch")).data
    page = await sessions.messages(branch.id, LOCAL)
    assert [row.message["content"] for row in page.data] == ["a"]


def rated(http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = http.get("/api/ratings", params=query).json()["data"]
    return data


def test_a_rated_answer_is_listed_with_the_messages_before_it(http: httpx.Client) -> None:
    session = talk(http, "rated", "a")
    talk(http, "rated", "b")
    path = f"/api/sessions/{session['id']}/messages"
    first, second = (row for row in http.get(path).json()["data"] if row["message"]["sender"] != "user")
    assert (
        http.put(f"{path}/{first['seq']}/rating", json={"value": "bad", "note": "short"}).status_code == 200
    )
    rating = {"value": "corrected", "correction": "B, of course."}
    assert http.put(f"{path}/{second['seq']}/rating", json=rating).status_code == 200
    bad, corrected = rated(http, app="api")
    assert (bad["value"], bad["note"], bad["answer"]) == ("bad", "short", "a")
    assert bad["messages"] == [{"role": "user", "content": "a"}]
    assert [m["role"] for m in corrected["messages"]] == ["user", "assistant", "user"]
    assert (corrected["correction"], corrected["answer"]) == ("B, of course.", "b")
    assert [r["id"] for r in rated(http, app="api", value="corrected")] == [corrected["id"]]
    assert rated(http, app="api", model=bad["model"]) == [bad, corrected]
    assert rated(http, app="api", model="nobody") == []
    page = http.get("/api/ratings", params={"app": "api", "limit": 1}).json()
    assert page == {"data": [bad], "has_more": True}
    assert rated(http, app="api", after=bad["id"]) == [corrected]
    http.put(f"{path}/{first['seq']}/rating", json={"value": "good"}).raise_for_status()
    assert [r["value"] for r in rated(http, app="api")] == ["good", "corrected"]
    assert http.delete(f"{path}/{first['seq']}/rating").status_code == 204
    assert [r["id"] for r in rated(http, app="api")] == [corrected["id"]]


def test_a_rating_is_not_copied_to_a_fork_and_is_deleted_with_its_session(http: httpx.Client) -> None:
    session = talk(http, "once", "a")
    [_, answer] = http.get(f"/api/sessions/{session['id']}/messages").json()["data"]
    path = f"/api/sessions/{session['id']}"
    http.put(f"{path}/messages/{answer['seq']}/rating", json={"value": "good"}).raise_for_status()
    http.post(f"{path}/fork", json={}).raise_for_status()
    assert [r["session"] for r in rated(http) if r["messages"][0]["content"] == "a"].count(session["id"]) == 1
    count_before = len(rated(http))
    http.delete(path)
    assert len(rated(http)) == count_before - 1


@pytest.mark.parametrize(
    ("seq", "rating", "status", "param"),
    [
        (1, {"value": "good"}, 400, "seq"),
        (99, {"value": "good"}, 404, "seq"),
        (2, {"value": "fine"}, 400, "value"),
        (2, {"value": "corrected"}, 400, "correction"),
        (2, {"value": "corrected", "correction": " "}, 400, "correction"),
        (2, {"value": "good", "correction": "x"}, 400, "correction"),
        (2, {"value": "good", "why": "x"}, 400, "why"),
    ],
)
def test_an_invalid_rating_is_refused_with_the_name_of_its_field(
    http: httpx.Client, seq: int, rating: dict[str, Any], status: int, param: str
) -> None:
    session = opened(http, f"refused {seq} {sorted(rating.items())}")
    http.post(
        f"/api/sessions/{session['id']}/messages",
        json={"messages": ["a", {"sender": "clerk", "content": "b"}]},
    ).raise_for_status()
    answer = http.put(f"/api/sessions/{session['id']}/messages/{seq}/rating", json=rating)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert http.get("/api/ratings", params={"after": "nonsense"}).status_code == 404


def test_malformed_ratings_in_messages_of_a_client_are_ignored_or_read_leniently(http: httpx.Client) -> None:
    session = opened(http, "odd")
    odd: list[Any] = [
        3,
        {"value": 3},
        {"value": "good", "correction": 7, "note": None, "rated_at": "now"},
        [],
    ]
    messages = [
        {"sender": "clerk", "content": "x", "extra_info": {"rating": odd_rating}} for odd_rating in odd
    ]
    http.post(f"/api/sessions/{session['id']}/messages", json={"messages": messages}).raise_for_status()
    [rating_row] = [rating for rating in rated(http) if rating["session"] == session["id"]]
    assert (rating_row["value"], rating_row["correction"], rating_row["note"]) == ("good", "7", "")
    http.delete(f"/api/sessions/{session['id']}")


def test_a_state_dict_loads_back_elsewhere(http: httpx.Client) -> None:
    talk(http, "from", "w", path="writer")
    source = talk(http, "from", "a")
    state = http.get(f"/api/sessions/{source['id']}/state").json()
    state["writer.state"] = {"summary": "so far", "covered": 0}
    target = opened(http, "to")
    assert (
        http.put(f"/api/sessions/{target['id']}/state", json=json.loads(json.dumps(state))).status_code == 200
    )
    assert http.get(f"/api/sessions/{target['id']}/state").json() == state
    talk(http, "to", "b")
    state_after = http.get(f"/api/sessions/{target['id']}/state").json()
    assert [m["content"] for m in state_after["memory"]] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ({"portico_session": 2, "memory": []}, "unsupported_version"),
        ({"portico_session": 1, "memory": {}}, "invalid_state"),
        ({"memory": [{"content": 3}]}, "invalid_message"),
        ({"nonsense": []}, "invalid_state"),
    ],
)
def test_a_state_that_cannot_be_read_changes_nothing(
    http: httpx.Client, state: dict[str, Any], code: str
) -> None:
    session = talk(http, f"kept-{code}", "a")
    state_before = http.get(f"/api/sessions/{session['id']}/state").json()
    answer = http.put(f"/api/sessions/{session['id']}/state", json=state)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == code
    assert http.get(f"/api/sessions/{session['id']}/state").json() == state_before


def test_a_session_is_reset_and_removed(http: httpx.Client) -> None:
    talk(http, "gone", "w", path="writer")
    session = talk(http, "gone", "a")
    http.post(f"/api/sessions/{session['id']}/reset").raise_for_status()
    assert http.get(f"/api/sessions/{session['id']}/state").json() == {"portico_session": 1}
    assert http.delete(f"/api/sessions/{session['id']}").status_code == 204
    missing = http.get(f"/api/sessions/{session['id']}")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "session_not_found"


def test_another_keys_sessions_do_not_exist(http: httpx.Client, stranger: httpx.Client) -> None:
    session = talk(http, "secret", "a")
    assert stranger.get("/api/sessions").json()["data"] == []
    path = f"/api/sessions/{session['id']}"
    answers = [
        stranger.get(path),
        stranger.patch(path, json={"title": "x"}),
        stranger.delete(path),
        stranger.get(f"{path}/messages"),
        stranger.post(f"{path}/reset"),
        stranger.post(f"{path}/fork", json={}),
        stranger.put(f"{path}/messages/2/rating", json={"value": "good"}),
        stranger.delete(f"{path}/messages/2/rating"),
        stranger.get(f"{path}/state"),
        stranger.put(f"{path}/state", json={}),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    messages = [{"role": "user", "content": "mine"}]
    body = {"model": "desk", "messages": messages, "conversation": session["id"]}
    assert stranger.post("/v1/chat/completions", json=body).status_code == 404
    body["conversation"] = "secret"
    assert stranger.post("/v1/chat/completions", json=body).status_code == 200
    assert stranger.get("/api/ratings").json()["data"] == []
    (own_session,) = stranger.get("/api/sessions").json()["data"]
    assert own_session["id"] != session["id"] and own_session["name"] == "secret"


def test_all_sessions_are_read_a_page_at_a_time(http: httpx.Client, stranger: httpx.Client) -> None:
    sessions = [http.post("/api/sessions", json={"app": "paged", "name": f"p{n}"}).json() for n in range(5)]
    session_ids: list[str] = []
    while True:
        cursor = {"after": session_ids[-1]} if session_ids else {}
        page = http.get("/api/sessions", params={"app": "paged", "limit": 2, **cursor}).json()
        session_ids += [session["id"] for session in page["data"]]
        if not page["has_more"]:
            break
    assert session_ids == [session["id"] for session in reversed(sessions)]
    for client, cursor in ((http, "conv_nope"), (stranger, session_ids[0])):
        response = client.get("/api/sessions", params={"after": cursor})
        assert (response.status_code, response.json()["error"]["param"]) == (404, "after")
