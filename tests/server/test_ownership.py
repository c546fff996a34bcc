"""Access rights: every noun of the API, every operation on it, by every possible caller, by name and by id.

The operations are those of ``openapi.json``: a path whose noun has no row in this file fails the first test.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.api_server import ApiServer, RelayModel, api_server
from tests.registry_fixture import FixedModel

from portico.client import AsyncClient
from portico.errors import Forbidden
from portico.schemas.facts import FactSpan
from portico_server.core.facts import NewFact
from portico_server.core.principal import Principal
from portico_server.features.stores.facts import StoredFacts
from portico_server.models.spec import ModelSpec
from portico_server.runs.artifacts import Author, NewArtifact

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPES = ("chat", "models:read", "stores:*:manage", "apps:*:deploy", "tools:*:call", "finetune")
BODIES = ("post", "put", "patch")

HELLO: Final = [{"role": "user", "content": "Hello"}]

TRAINED: Final = "ft:base:portico:thing:ftjob-01"


@dataclass(frozen=True, slots=True)
class Caller:
    """A key, or a caller without a key, and its requests."""

    id: str
    secret: str
    api_server: ApiServer
    admin: bool = False

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"} if self.secret else {}

    @property
    def principal(self) -> Principal:
        return Principal(self.id, frozenset({"admin"} if self.admin else SCOPES))

    async def __call__(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.api_server.client.request(method, path, json=body, headers=self.headers)

    async def done(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self(method, path, body)
        assert answer.status_code < 300, (method, path, answer.text)
        return answer.json() if answer.content else None

    async def upload(self, text: str, purpose: str = "assistants", name: str = "a.txt") -> str:
        answer = await self.api_server.client.post(
            "/v1/files",
            files={"file": (name, text.encode())},
            data={"purpose": purpose},
            headers=self.headers,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])


@dataclass(frozen=True, slots=True)
class Town:
    """A daemon and its callers. Their keys are new in each test; all tests share the daemon."""

    owner: Caller
    other: Caller
    admin: Caller
    nobody: Caller
    api_server: ApiServer

    def unused(self, name: str) -> str:
        """Return a name that no other test uses, because aliases persist."""
        return f"n{self.owner.id[-8:]}_{name}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("ownership"), require_key=True) as server:
        services = server.services
        server.add(RelayModel("teller", b"{}"), FixedModel("Hello.", name="voice"))
        await services.models.add(ModelSpec("base", "fake://"))
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def operations(served: ApiServer) -> list[tuple[str, str]]:
    """Return the method and path of every operation on a single resource."""
    row, secret = await served.auth.create("reader", ("admin",))
    paths = (await Caller(row.id, secret, served, admin=True).done("GET", "/openapi.json"))["paths"]
    return [(method, path) for path, methods in sorted(paths.items()) if "{" in path for method in methods]


REMOVED: Final = {
    **dict.fromkeys(("/api/apps", "/api/stores", "/api/prompts", "/api/schedules", "/v1/skills"), "id"),
    **dict.fromkeys(("/api/workers", "/api/adapters", "/api/deployments"), "name"),
    **dict.fromkeys(("/api/mcp/servers", "/api/tool-sources"), "name"),
}
"""The lists of named resources, and the field by which they are deleted."""


@pytest_asyncio.fixture(loop_scope="module")
async def town(served: ApiServer) -> AsyncIterator[Town]:
    """Yield three callers that own nothing. The named resources that they create are removed afterwards."""
    callers = []
    for name, scopes in (("owner", SCOPES), ("other", SCOPES), ("admin", ("admin",))):
        row, secret = await served.auth.create(name, scopes)
        callers.append(Caller(row.id, secret, served, admin=name == "admin"))
    yield Town(*callers, Caller("", "", served), served)  # type: ignore[call-arg]
    served.services.registry.remove(TRAINED, callers[0].id)
    for path, ref in REMOVED.items():
        everyone = (
            "?all=true" if path in ("/api/apps", "/api/prompts", "/api/schedules", "/v1/skills") else ""
        )
        for item in (await callers[2].done("GET", f"{path}{everyone}"))["data"]:
            if item["name"] != "base" and item.get("origin") != "portico":
                await callers[2].done("DELETE", f"{path}/{item[ref]}")


def says(answer: str) -> dict[str, Any]:
    """Return a flow that outputs one text."""
    step = {"op": "pipeline", "name": "says", "steps": [{"op": "emit", "name": "e"}], "output": answer}
    return {"portico_flow": 1, "step": step}


# --- the nouns, and how to create a resource of each
# --------------------------------------------------------------

Make = Callable[[Caller, str], Awaitable[str]]


async def store(caller: Caller, name: str) -> str:
    return str((await caller.done("POST", "/api/stores", {"name": name}))["id"])


async def app(caller: Caller, name: str) -> str:
    deployed_app = await caller.done("POST", "/api/apps", {"name": name, "spec": says(caller.id)})
    return str(deployed_app["id"])


async def agent(caller: Caller, name: str) -> str:
    body = {"name": name, "kind": "agent", "spec": {"portico_agent": 1, "model": "voice"}}
    return str((await caller.done("POST", "/api/apps", body))["id"])


async def prompt(caller: Caller, name: str) -> str:
    messages = [{"role": "user", "content": caller.id}]
    return str((await caller.done("POST", "/api/prompts", {"name": name, "messages": messages}))["id"])


async def function(caller: Caller, name: str) -> str:
    function_spec = {"name": name, "input_schema": {"type": "object"}, "description": caller.id}
    await caller.done("POST", "/api/workers", {"worker": f"w-{name}", "functions": [function_spec]})
    return name


async def worker(caller: Caller, name: str) -> str:
    await function(caller, name)
    return f"w-{name}"


async def file(caller: Caller, name: str) -> str:
    return await caller.upload(name)


async def upload(caller: Caller, name: str) -> str:
    body = {"filename": name, "purpose": "assistants", "bytes": 9, "mime_type": "text/plain"}
    return str((await caller.done("POST", "/v1/uploads", body))["id"])


async def session(caller: Caller, name: str) -> str:
    return str((await caller.done("POST", "/api/sessions", {"app": "desk", "name": name}))["id"])


async def conversation(caller: Caller, _name: str) -> str:
    return str((await caller.done("POST", "/v1/conversations", {}))["id"])


async def response(caller: Caller, _name: str) -> str:
    return str((await caller.done("POST", "/v1/responses", {"model": "voice", "input": "Hello"}))["id"])


async def stored_chat(caller: Caller, _name: str) -> str:
    body = {"model": "voice", "messages": [{"role": "user", "content": "secret"}], "store": True}
    return str((await caller.done("POST", "/v1/chat/completions", body))["id"])


async def run(caller: Caller, name: str) -> str:
    flow = {**says("x"), "name": name}
    answer = await caller("POST", "/api/flows/run", {"flow": flow, "input": ""})
    assert answer.status_code == 200, answer.text
    return str(answer.headers.get("x-portico-run") or answer.json()["run"])


async def artifact(caller: Caller, name: str) -> str:
    author = Author(f"run_{name}", caller.principal)
    [stored_artifact] = await caller.api_server.services.artifacts.keep(
        [NewArtifact("a.txt", "text/plain", b"secret")], author
    )
    return stored_artifact.id


async def question(caller: Caller, name: str) -> str:
    await function(caller, name)
    await caller.done("POST", f"/api/tools/{name}/call?wait=false", {"arguments": {}})
    claim = await caller.done("POST", f"/api/workers/w-{name}/claim", {"wait": 20})
    return str(claim["data"][0]["id"])


async def batch(caller: Caller, name: str) -> str:
    line = '{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"teller","messages":[]}}'
    body = {
        "input_file_id": await caller.upload(line, "batch", f"{name}.jsonl"),
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    return str((await caller.done("POST", "/v1/batches", body))["id"])


async def message_batch(caller: Caller, name: str) -> str:
    params = {"model": "teller", "max_tokens": 8, "messages": [{"role": "user", "content": name}]}
    body = {"requests": [{"custom_id": "1", "params": params}]}
    return str((await caller.done("POST", "/v1/messages/batches", body))["id"])


async def webhook(caller: Caller, name: str) -> str:
    body = {"name": name, "url": "https://example.com/hook", "event_types": ["batch.completed"]}
    return str((await caller.done("POST", "/v1/webhook_endpoints", body))["id"])


async def schedule(caller: Caller, name: str) -> str:
    await app(caller, f"{name}-app")
    body = {"name": name, "app": f"{name}-app", "every": "1h", "pause_after": 0}
    return str((await caller.done("POST", "/api/schedules", body))["id"])


async def skill(caller: Caller, name: str) -> str:
    text = f"---\nname: {name}\ndescription: Of {caller.id}.\n---\nDo it."
    answer = await caller.api_server.client.post(
        "/v1/skills", files={"files": (f"{name}/SKILL.md", text)}, headers=caller.headers
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


async def container(caller: Caller, name: str) -> str:
    body = {"name": name, "file_ids": [await caller.upload("mine")]}
    return str((await caller.done("POST", "/v1/containers", body))["id"])


async def evaluation(caller: Caller, name: str) -> str:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    grader = {
        "type": "string_check",
        "name": "same",
        "input": "{{ item.q }}",
        "reference": "x",
        "operation": "eq",
    }
    body = {
        "name": name,
        "data_source_config": {"type": "custom", "item_schema": schema},
        "testing_criteria": [grader],
    }
    return str((await caller.done("POST", "/v1/evals", body))["id"])


async def improvement(caller: Caller, name: str) -> str:
    await app(caller, name)
    data = [{"question": f"{name} {number}", "answer": "a"} for number in range(9)]
    return str((await caller.done("POST", "/api/improvements", {"app": name, "data": data}))["id"])


async def job(caller: Caller, name: str) -> str:
    line = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
    body = {"model": "base", "training_file": await caller.upload(line * 12, "fine-tune", f"{name}.jsonl")}
    return str((await caller.done("POST", "/v1/fine_tuning/jobs", body))["id"])


async def fact(caller: Caller, name: str) -> str:
    services = caller.api_server.services
    facts = StoredFacts(services.database, services.stores, services.files)
    await store(caller, name)
    await facts.add(
        name,
        [NewFact("secret", FactSpan("secret", 0, 6))],
        {"fact": True, "owner": caller.id},
        caller.principal,
    )
    [stored_fact] = await facts.list(caller.principal, store=name)
    return stored_fact.id


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of resource. ``paths``: the operations on a resource, with its id; ``by_name``: its names have owners."""

    make: Make
    paths: tuple[str, ...]
    by_name: bool = False


NOUNS: Final[Mapping[str, Noun]] = {
    "store": Noun(store, ("/api/stores/{store}", "/v1/vector_stores/{store}"), by_name=True),
    "app": Noun(app, ("/api/apps/{name}",), by_name=True),
    "app as a model": Noun(app, ("/v1/models/{name}",), by_name=True),
    "agent": Noun(agent, ("/api/apps/{name}",), by_name=True),
    "prompt": Noun(prompt, ("/api/prompts/{name}",), by_name=True),
    "tool": Noun(function, ("/api/tools/{name}",)),
    "worker": Noun(worker, ("/api/workers/{worker}",)),
    "file": Noun(file, ("/v1/files/{file_id}",)),
    "upload": Noun(upload, ("/v1/uploads/{upload_id}",)),
    "session": Noun(session, ("/api/sessions/{session_id}",)),
    "conversation": Noun(conversation, ("/v1/conversations/{conversation_id}",)),
    "response": Noun(response, ("/v1/responses/{response_id}",)),
    "stored chat": Noun(stored_chat, ("/v1/chat/completions/{completion_id}",)),
    "run": Noun(run, ("/api/runs/{run_id}",)),
    "artifact": Noun(artifact, ("/api/artifacts/{artifact_id}",)),
    "question": Noun(question, ("/api/questions/{question_id}",)),
    "batch": Noun(batch, ("/v1/batches/{batch_id}",)),
    "message batch": Noun(message_batch, ("/v1/messages/batches/{batch_id}",)),
    "webhook": Noun(webhook, ("/v1/webhook_endpoints/{webhook_endpoint_id}", "/api/webhooks/{webhook_id}")),
    "schedule": Noun(schedule, ("/api/schedules/{schedule}",), by_name=True),
    "skill": Noun(skill, ("/v1/skills/{skill_id}",), by_name=True),
    "container": Noun(container, ("/v1/containers/{container_id}",)),
    "evaluation": Noun(evaluation, ("/v1/evals/{eval_id}", "/api/evals/{eval_id}")),
    "improvement": Noun(improvement, ("/api/improvements/{improvement_id}",)),
    "job": Noun(job, ("/v1/fine_tuning/jobs/{job_id}", "/api/fine_tuning/jobs/{job_id}")),
    "fact": Noun(fact, ("/api/facts/{fact_id}",)),
}


async def model(caller: Caller, name: str) -> str:
    await caller.done("POST", "/api/deployments", {"name": name, "source": "fake://"})
    return name


async def alias(caller: Caller, name: str) -> str:
    await caller.done("PUT", f"/api/aliases/{name}", {"target": "base"})
    return name


async def canary(caller: Caller, name: str) -> str:
    await caller.done("PUT", f"/api/aliases/{name}", {"target": "base"})
    await caller.done("PUT", f"/api/canaries/{name}", {"target": "teller", "weight": 0.5})
    return name


async def adapter(caller: Caller, name: str) -> str:
    script = caller.api_server.services.settings.home / "adapter.yaml"
    script.write_text("- {content: adapted}\n")
    await caller.done("POST", "/api/adapters", {"base": "base", "path": str(script), "name": name})
    return name


async def mcp_server(caller: Caller, name: str) -> str:
    command = [sys.executable, str(Path(__file__).parent / "features" / "mcp_servers" / "stranger.py")]
    body = {"name": "stranger", "command": command, "allow": ["echo"], "prefix": name.removesuffix("echo")}
    created_server = await caller.done("POST", "/api/mcp/servers", body)
    assert created_server["state"] == "ready", created_server
    return "stranger"


async def tool_source(caller: Caller, name: str) -> str:
    await caller.done("POST", "/api/tool-sources", {"name": name, "command": ["true"]})
    return name


async def key(caller: Caller, name: str) -> str:
    return str((await caller.done("POST", "/api/keys", {"name": name, "scopes": ["chat"]}))["id"])


@dataclass(frozen=True, slots=True)
class Operated:
    """A resource that only admins create and change and that is shared: its path, and the ``name`` that callers use.

    ``rival``: how a key creates something under the same name; ``None`` if it cannot create a rival.
    """

    make: Make
    path: str
    rival: Make | None = app
    name: str = "thing"


OPERATED: Final[Mapping[str, Operated]] = {
    "model": Operated(model, "/api/deployments/{name}"),
    "alias": Operated(alias, "/api/aliases/{name}"),
    "canary": Operated(canary, "/api/canaries/{alias}", None),
    "adapter": Operated(adapter, "/api/adapters/{name}"),
    "MCP server": Operated(mcp_server, "/api/mcp/servers/{name}", function, "thing_echo"),
    "tool source": Operated(tool_source, "/api/tool-sources/{name}", function),
    "key": Operated(key, "/api/keys/{key_id}", None),
}

OPERATORS: Final = (
    *(each.path for each in OPERATED.values()),
    "/api/cluster/nodes/{launcher}/{node}",
    "/api/distillations/{alias}",
    "/api/engines/{name}",
)
"""Engines and nodes have no creator: they always exist. A distillation belongs to its alias."""

FOR_ALL: Final = ("/.well-known/", "/api/public-sessions/")


def of(noun: Noun, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the operations on a noun: first those that only read, last those that delete."""
    noun_operations = [
        (method, path)
        for method, path in found
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in noun.paths)
    ]
    order = ("get", "post", "put", "patch", "delete")
    return sorted(noun_operations, key=lambda item: (order.index(item[0]), item[1]))


def filled(path: str, ref: str) -> str:
    """Return the path with the reference in its first placeholder and a missing name in all others."""
    return re.sub(r"{\w+}", "x", re.sub(r"{\w+}", ref, path, count=1))


def absent(ref: str) -> str:
    """Return a reference of the same form that does not exist."""
    return ref[:-6] + "ffffff" if re.search(r"[0-9a-f]{12}$", ref) else f"no-{ref}"


# --- every operation ----------------------------------------------------------------------------------------------


def message_of(answer: httpx.Response) -> str:
    """Return the text of an answer, without the id of the request that errors in Anthropic's form contain."""
    return answer.text.replace(answer.headers.get("request-id") or "\0", "")


@pytest.mark.slow
async def test_every_resource_type_of_the_api_is_in_the_ownership_table(
    operations: list[tuple[str, str]],
) -> None:
    found_operations = operations
    known_paths = [path for noun in NOUNS.values() for path in noun.paths] + [*OPERATORS, *FOR_ALL]
    missing = [
        path
        for _method, path in found_operations
        if not any(path.startswith(prefix) for prefix in known_paths)
    ]
    assert missing == [], "give its noun a row in NOUNS, or in OPERATORS if an admin alone makes one"
    for noun in NOUNS.values():
        assert all(of(Noun(noun.make, (path,)), found_operations) for path in noun.paths)


@pytest.mark.parametrize("name", NOUNS)
async def test_resources_of_another_key_are_not_found_and_admins_need_the_id(
    town: Town, operations: list[tuple[str, str]], name: str
) -> None:
    noun = NOUNS[name]
    ref = await noun.make(town.owner, "thing")
    noun_operations = of(noun, operations)
    refs = {ref, "thing"} if noun.by_name else {ref}
    for method, path in noun_operations:
        body = {} if method in BODIES else None
        for spelling in refs:
            answer = await town.other(method, filled(path, spelling), body)
            absent_answer = await town.other(method, filled(path, absent(spelling)), body)
            outcome = (answer.status_code, message_of(answer).replace(spelling, "it"))
            assert outcome == (
                absent_answer.status_code,
                message_of(absent_answer).replace(absent(spelling), "it"),
            ), (
                method,
                path,
            )
            if method == "get":
                assert answer.status_code == 404, (path, answer.text)
            answer = await town.nobody(method, filled(path, spelling), body)
            assert answer.status_code == 401, (method, path)
    for method, path in noun_operations:  # none of these requests changed the resource
        if method == "get" and path.count("{") == 1 and "/api/tools" not in path:
            for caller in (town.owner, town.admin):
                answer = await caller(method, filled(path, ref))
                assert answer.status_code != 404, (path, answer.text)
            if noun.by_name:
                assert (await town.admin(method, filled(path, "thing"))).status_code == 404, path


@pytest.mark.parametrize("name", [*OPERATED, "engine"])
async def test_admin_only_resources_cannot_be_changed_by_keys(
    town: Town, operations: list[tuple[str, str]], name: str
) -> None:
    row = OPERATED.get(name)
    ref = "fake" if row is None else await row.make(town.admin, town.unused(row.name))
    at = OPERATORS[-1] if row is None else row.path
    store_operations = of(Noun(store, (at,)), operations)
    assert store_operations
    collection_path = at.partition("/{")[0]
    rows_before = (await town.admin.done("GET", collection_path))["data"]
    for method, path in store_operations:
        body = {} if method in BODIES else None
        answer = await town.other(method, filled(path, ref), body)
        # The body is parsed before the rights are checked.
        assert answer.status_code in ((200, 403) if method == "get" else (403, 400)), (path, answer.text)
        if answer.status_code == 400:
            assert answer.json()["error"]["code"] == "missing_required_parameter"
        assert (await town.nobody(method, filled(path, ref), body)).status_code == 401, (method, path)
    assert [
        (entry.get("name"), entry.get("id"))
        for entry in (await town.admin.done("GET", collection_path))["data"]
    ] == [(entry.get("name"), entry.get("id")) for entry in rows_before]


async def answered(caller: Caller, name: str) -> str | None:
    """Return the description of the tool with this name, or the answer of the model or app with this name."""
    tool = await caller("GET", f"/api/tools/{name}")
    if tool.status_code == 200:
        return str(tool.json()["description"])
    chat_response = await caller("POST", "/v1/chat/completions", {"model": name, "messages": HELLO})
    return (
        str(chat_response.json()["choices"][0]["message"]["content"])
        if chat_response.status_code == 200
        else None
    )


@pytest.mark.parametrize("name", [name for name, row in OPERATED.items() if row.rival])
async def test_a_key_cannot_take_the_name_of_an_operator_resource(town: Town, name: str) -> None:
    row, known_as = OPERATED[name], town.unused(OPERATED[name].name)
    assert row.rival is not None
    await row.make(town.admin, known_as)
    reply = await answered(town.other, known_as)
    assert reply is not None
    with pytest.raises(AssertionError, match=r"name_taken"):
        await row.rival(town.owner, known_as)
    assert [await answered(caller, known_as) for caller in (town.owner, town.other, town.admin)] == [
        reply
    ] * 3


@pytest.mark.parametrize("name", [name for name, row in OPERATED.items() if row.rival])
async def test_a_name_used_by_a_key_does_not_block_the_operator(town: Town, name: str) -> None:
    row, known_as = OPERATED[name], town.unused(OPERATED[name].name)
    assert row.rival is not None
    await row.rival(town.owner, known_as)
    assert await answered(town.other, known_as) is None
    await row.make(town.admin, known_as)
    replies = [await answered(caller, known_as) for caller in (town.owner, town.other, town.admin)]
    assert replies[0] == town.owner.id
    assert replies[1] == replies[2] not in (None, town.owner.id)


# --- every name ---------------------------------------------------------------------------------------------------


async def named_store(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/api/stores/{name}")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


async def named_app(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/api/apps/{name}")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


async def named_prompt(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/api/prompts/{name}")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


async def named_tool(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/api/tools/{name}")
    return str(answer.json()["description"]) if answer.status_code == 200 else None


async def described(caller: Caller, name: str) -> str:
    """Return the part of a function that distinguishes functions with the same name."""
    await function(caller, name)
    return caller.id


async def named_schedule(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/api/schedules/{name}")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


async def named_skill(caller: Caller, name: str) -> str | None:
    answer = await caller("GET", f"/v1/skills/{name}")
    return str(answer.json()["id"]) if answer.status_code == 200 else None


Look = Callable[[Caller, str], Awaitable[str | None]]

NAMED: Final[Mapping[str, tuple[Make, Look]]] = {
    "store": (store, named_store),
    "app": (app, named_app),
    "agent": (agent, named_app),
    "prompt": (prompt, named_prompt),
    "tool": (described, named_tool),
    "schedule": (schedule, named_schedule),
    "skill": (skill, named_skill),
}


@pytest.mark.parametrize("name", NAMED)
async def test_a_key_resolves_its_own_resource_before_the_shared_one_of_that_name(
    town: Town, name: str
) -> None:
    make, look = NAMED[name]
    own_ref = await make(town.owner, "thing")
    assert [await look(caller, "thing") for caller in (town.owner, town.other, town.admin)] == [
        own_ref,
        None,
        None,
    ]
    theirs = await make(town.other, "thing")
    shared_ref = await make(town.admin, "thing")
    assert len({own_ref, theirs, shared_ref}) == 3
    assert [await look(caller, "thing") for caller in (town.owner, town.other, town.admin)] == [
        own_ref,
        theirs,
        shared_ref,
    ]


@pytest.mark.parametrize("name", NAMED)
async def test_a_key_cannot_create_a_resource_with_an_existing_operator_name(town: Town, name: str) -> None:
    make, look = NAMED[name]
    shared_ref = await make(town.admin, "thing")
    with pytest.raises(AssertionError, match=r"name_taken"):
        await make(town.owner, "thing")
    assert [await look(caller, "thing") for caller in (town.owner, town.other, town.admin)] == [
        shared_ref
    ] * 3


@pytest.mark.parametrize("name", NAMED)
async def test_no_key_takes_a_reserved_name(town: Town, name: str) -> None:
    make, look = NAMED[name]
    town.api_server.services.registry.claims.reserve(["withheld"])
    with pytest.raises(AssertionError, match=r"name_reserved"):
        await make(town.owner, "withheld")
    shared_ref = await make(town.admin, "withheld")
    assert await look(town.owner, "withheld") == shared_ref


TITLES: Final = {
    "/api/sessions": "within its app",
    "/v1/evals": "a title",
    "/v1/webhook_endpoints": "a title",
    "/v1/containers": "a title",
    "/v1/vector_stores": "a title: /api/stores gives the name",
    "/api/webhooks": "a title",
}
"""Paths with a ``name`` by which nothing can be addressed."""


async def test_every_named_resource_type_is_in_the_table_of_names(town: Town) -> None:
    document = await town.admin.done("GET", "/openapi.json")
    schemas = document["components"]["schemas"]
    collections = {path.rpartition("/{")[0]: name for name, noun in NOUNS.items() for path in noun.paths}
    for collection, name in collections.items():
        body = document["paths"].get(collection, {}).get("post", {}).get("requestBody", {}).get("content", {})
        ref = body.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
        if "name" in schemas.get(ref, {}).get("properties", {}):
            assert collection in TITLES or {name} & {*NAMED, "app as a model"}, (
                f"{collection}: give {name} a row in NAMED"
            )
    assert {name for name, noun in NOUNS.items() if noun.by_name} <= {*NAMED, "app as a model"}


async def test_only_admins_can_include_model_files_in_a_package(town: Town) -> None:
    spec = {"portico_flow": 1, "step": {"op": "llm", "model": "base"}}
    for caller, status in ((town.owner, 403), (town.admin, 200)):
        await caller.done("POST", "/api/apps", {"name": "thing", "spec": spec})
        assert (await caller("POST", "/api/apps/thing/package/plan", {})).status_code == 200
        for path in ("/api/apps/thing/package/plan", "/api/apps/thing/package"):
            if caller is town.owner or path.endswith("plan"):
                assert (await caller("POST", path, {"models": "include"})).status_code == status


def step(noun: str) -> dict[str, Any]:
    """Return a flow step that names a resource."""
    return {
        "store": {"op": "retrieve", "name": "s", "store": "thing", "query": "q"},
        "app": {"op": "subflow", "name": "s", "app": "thing"},
        "tool": {"op": "tool", "name": "s", "tool": "thing", "arguments": {}},
    }[noun]


@pytest.mark.parametrize("name", ["store", "app", "tool"])
async def test_a_flow_can_use_only_resources_of_its_caller(town: Town, name: str) -> None:
    await NAMED[name][0](town.owner, "thing")
    flow = {"portico_flow": 1, "step": step(name)}
    for caller, is_usable in ((town.owner, True), (town.other, False), (town.admin, False)):
        verdict = await caller.done("POST", "/api/flows/check", {"flow": flow})
        assert verdict["ok"] is is_usable, verdict
        if not is_usable:
            assert verdict["error"]["code"] in ("store_not_found", "model_not_found", "tool_not_found")


async def test_a_flow_resolves_app_names_as_its_caller_does(town: Town) -> None:
    await app(town.owner, "thing")
    await app(town.admin, "thing")
    flow = {"portico_flow": 1, "step": step("app")}
    for caller, app_owner in ((town.owner, town.owner), (town.other, town.admin), (town.admin, town.admin)):
        answer = await caller("POST", "/api/flows/run", {"flow": flow, "input": ""})
        assert f'"result":"{app_owner.id}"' in answer.text, answer.text


async def tools_of(caller: Caller) -> dict[str, str]:
    """Return the tools that MCP offers, with their descriptions."""
    async with (
        httpx.AsyncClient(headers=caller.headers, timeout=60) as client,
        streamable_http_client(f"{caller.api_server.url}/mcp", http_client=client) as streams,
        ClientSession(streams[0], streams[1]) as mcp_session,
    ):
        await mcp_session.initialize()
        return {tool.name: tool.description or "" for tool in (await mcp_session.list_tools()).tools}


async def test_mcp_lists_the_tools_visible_to_its_caller(town: Town) -> None:
    for make in (described, store, app):
        await make(town.owner, f"own-{make.__name__}")
    for caller in (town.owner, town.admin):
        await described(caller, "both")
    own_tools = await tools_of(town.owner)
    assert {"own-described", "search_own-store", "own-app"} <= set(own_tools)
    assert own_tools["both"] == town.owner.id
    for caller in (town.other, town.admin):
        tools = await tools_of(caller)
        assert not [name for name in tools if "own-" in name]
        assert tools["both"] == town.admin.id


async def test_file_search_in_a_response_is_limited_to_stores_of_the_caller(town: Town) -> None:
    ref = await store(town.owner, "thing")
    for caller, store_ref, is_visible in (
        (town.owner, "thing", True),
        (town.other, "thing", False),
        (town.other, ref, False),
        (town.admin, "thing", False),
        (town.admin, ref, True),
    ):
        body = {
            "model": "voice",
            "input": "Hello",
            "tools": [{"type": "file_search", "vector_store_ids": [store_ref]}],
        }
        answer = await caller("POST", "/v1/responses", body)
        is_refused = answer.status_code >= 400 and "vector_store_ids" in answer.text
        assert is_refused is not is_visible, (store_ref, answer.text)


async def test_an_admin_can_list_the_apps_of_all_keys_by_id(town: Town) -> None:
    app_ids = {await app(town.owner, "thing"), await app(town.admin, "thing")}
    async with AsyncClient(town.api_server.url, town.admin.secret) as client:
        apps = await client.apps.list(everyone=True)
        assert {(item.id, item.owner) for item in apps} == {
            *((resource, None) for resource in app_ids if resource != min(app_ids)),
            (min(app_ids), town.owner.id),
        }
        [own_app] = await client.apps.list()
        assert own_app.shared and own_app.id == max(app_ids)
    async with AsyncClient(town.api_server.url, town.other.secret) as client:
        with pytest.raises(Forbidden):
            await client.apps.list(everyone=True)
        assert [resource for resource in await client.prompts.list() if resource.origin != "portico"] == []


async def test_sessions_of_an_own_and_a_shared_app_of_one_name_are_separate(town: Town) -> None:
    """Each app has the same name and the key names its sessions the same, yet no session receives the other's
    messages.
    """
    own_app, shared_app = await agent(town.owner, "desk"), await agent(town.admin, "desk")
    session_ids = {
        app: (await town.owner.done("POST", "/api/sessions", {"app": app, "name": "talk"}))["id"]
        for app in (own_app, shared_app, "desk")
    }
    assert session_ids["desk"] == session_ids[own_app] != session_ids[shared_app]
    for app, text in ((own_app, "a secret"), (shared_app, "hello")):
        body = {"model": app, "messages": [{"role": "user", "content": text}], "conversation": "talk"}
        await town.owner.done("POST", "/v1/chat/completions", body)
        messages = await town.owner.done("GET", f"/api/sessions/{session_ids[app]}/messages")
        assert [
            item["message"]["content"] for item in messages["data"] if item["message"]["sender"] == "user"
        ] == [text]
    crossed = {
        "model": shared_app,
        "messages": [{"role": "user", "content": "x"}],
        "conversation": session_ids[own_app],
    }
    answer = await town.owner("POST", "/v1/chat/completions", crossed)
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "session_not_found"
    for app, session_list in (
        (own_app, [session_ids[own_app]]),
        (shared_app, [session_ids[shared_app]]),
        ("desk", [session_ids[own_app]]),
    ):
        sessions = await town.owner.done("GET", f"/api/sessions?app={app}")
        assert [item["id"] for item in sessions["data"]] == session_list
    await town.owner.done("DELETE", "/api/apps/desk")
    later = await town.owner.done("POST", "/api/sessions", {"app": "desk", "name": "talk"})
    assert later["id"] == session_ids[shared_app], "the shared app is meant by now"


# --- other spellings of another key's names
# -----------------------------------------------------------------------

SPELLED = (
    "{name}",
    "THING",
    "Thing",
    "thing%20",
    "%20thing",
    "thing%00",
    "thing%0a",
    "%74hing",
    ".%2Fthing",
    "..%2Fthing",
    "th\u0131ng",
    "\uff54\uff48\uff49\uff4e\uff47",
    "t\u200bhing",
    "\u202ething",
    "{owner}%2Fthing",
    "{owner}:thing",
    "%2Fthing",
    "{id}%20",
    "{id}%00",
    "{upper}",
    "{id}x",
    "store%2Fthing",
    "tool%2Fthing",
    "thing@1",
    "*",
)
"""Names with which a caller might try to reach a resource called ``thing``."""


@pytest.mark.parametrize("name", NAMED)
async def test_no_path_spelling_reaches_a_resource_of_another_key(town: Town, name: str) -> None:
    ref = await NAMED[name][0](town.owner, "thing")
    for path in NOUNS[name].paths:
        for spelled in SPELLED:
            spelling = spelled.format(name="thing", owner=town.owner.id, id=ref, upper=ref.upper())
            for caller in (town.other, town.admin):
                answer = await caller("GET", f"{path.partition('{')[0]}{spelling}")
                assert answer.status_code in (400, 404, 405), (path, spelling, answer.text)
                assert town.owner.id in spelling or town.owner.id not in answer.text, (path, spelling)


@pytest.mark.parametrize("name", ["store", "app", "prompt"])
async def test_a_resource_named_like_an_id_does_not_shadow_that_id(town: Town, name: str) -> None:
    """A key names its own resource with the id of the operator's resource, or with that of another key's resource."""
    make, look = NAMED[name]
    for caller in (town.owner, town.admin):
        ref = await make(caller, "thing")
        with contextlib.suppress(AssertionError):
            await make(town.other, ref)
        assert await look(caller, ref) == ref
        assert await look(town.admin, ref) == ref
        if caller is town.owner:
            assert await look(town.other, ref) != ref


async def test_ids_in_bodies_reach_nothing_of_another_key(town: Town) -> None:
    """Wherever a request can name a file, a store, a response and so on, another key's resource counts as missing."""
    owner, second_caller = town.owner, town.other
    line = '{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"teller","messages":[]}}'
    batch_file = await owner.upload(line, "batch", "b.jsonl")
    training = await owner.upload(
        '{"messages":[{"role":"user","content":"secret"}]}\n', "fine-tune", "t.jsonl"
    )
    items = await owner.upload('{"item":{"q":"secret"}}\n', "evals", "e.jsonl")
    image_id = await owner.upload("secret", "vision", "p.png")
    theirs, own_store = await store(owner, "theirs"), await store(second_caller, "mine")
    talk, response_id, flow = await session(owner, "talk"), await response(owner, "x"), await run(owner, "x")
    conversation_id, words = await conversation(owner, "x"), await prompt(owner, "words")
    judged, evaluation_id = await evaluation(second_caller, "mine"), await evaluation(owner, "theirs")
    source = {"type": "file_id", "id": items}
    ask = {"model": "voice", "input": "Hello"}
    picture = {"role": "user", "content": [{"type": "input_image", "file_id": image_id}]}
    requests: list[tuple[str, str, Any]] = [
        (
            "POST",
            "/v1/batches",
            {"input_file_id": batch_file, "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        ),
        ("POST", "/v1/fine_tuning/jobs", {"model": "voice", "training_file": training}),
        ("POST", f"/v1/evals/{judged}/runs", {"data_source": {"type": "jsonl", "source": source}}),
        ("POST", f"/v1/evals/{evaluation_id}/runs", {"data_source": {"type": "jsonl", "source": source}}),
        ("POST", f"/v1/vector_stores/{own_store}/files", {"file_id": image_id}),
        ("POST", f"/v1/vector_stores/{theirs}/files", {"file_id": await second_caller.upload("x")}),
        ("POST", f"/v1/vector_stores/{own_store}/file_batches", {"file_ids": [image_id]}),
        ("POST", f"/v1/vector_stores/{theirs}/search", {"query": "secret"}),
        ("POST", f"/api/stores/{theirs}/search", {"query": "secret"}),
        ("POST", "/v1/responses", {**ask, "previous_response_id": response_id}),
        ("POST", "/v1/responses", {**ask, "conversation": conversation_id}),
        ("POST", "/v1/responses", {**ask, "prompt": {"id": words}}),
        ("POST", "/v1/responses", {**ask, "prompt": {"id": words, "version": "1"}}),
        ("POST", "/v1/responses", {**ask, "prompt": {"id": "words"}}),
        (
            "POST",
            "/v1/responses",
            {**ask, "input": [{"type": "item_reference", "id": f"msg_{response_id[5:]}_1"}]},
        ),
        ("POST", "/v1/responses", {**ask, "input": [picture]}),
        ("POST", "/v1/responses", {**ask, "background": True, "previous_response_id": response_id}),
        ("POST", f"/v1/responses/{response_id}/cancel", None),
        ("GET", f"/v1/responses/{response_id}/input_items", None),
        ("GET", f"/v1/conversations/{conversation_id}/items", None),
        ("POST", f"/api/sessions/{talk}/fork", {"name": "copy"}),
        ("GET", f"/api/sessions/{talk}/state", None),
        ("GET", f"/api/sessions/{talk}/messages", None),
        ("POST", f"/api/runs/{flow}/fork", {}),
        ("POST", f"/api/runs/{flow}/resume", {}),
        ("GET", f"/api/runs/{flow}/trace", None),
        ("GET", f"/api/runs/{flow}/events", None),
        ("GET", f"/v1/files/{image_id}/content", None),
        ("POST", f"/api/prompts/{words}/render", {"arguments": {}}),
    ]
    for method, path, body in requests:
        answer = await second_caller(method, path, body)
        assert 400 <= answer.status_code < 500, (method, path, body, answer.text)
        assert answer.status_code != 403, (path, "it would be told that it is there")
        assert "secret" not in answer.text, (path, answer.text)


async def test_an_alias_to_a_private_app_lets_nobody_in(town: Town) -> None:
    ref = await app(town.owner, "thing")
    answer = await town.admin("PUT", "/api/aliases/shortcut", {"target": ref})
    body = {"model": "shortcut", "messages": [{"role": "user", "content": "x"}]}
    http_response = await town.other("POST", "/v1/chat/completions", body)
    assert http_response.status_code == 404, (answer.text, http_response.text)
    assert town.owner.id not in http_response.text


async def test_mcp_resources_of_another_key_cannot_be_read(town: Town) -> None:
    ref = await store(town.owner, "thing")
    file_id = await town.owner.upload("secret")
    await town.owner.done("POST", f"/v1/vector_stores/{ref}/files", {"file_id": file_id})
    addresses = [
        f"portico://stores/{store_spelling}/files/{name}"
        for store_spelling in ("thing", ref, "THING", "%74hing", f"mine/../{ref}", f"{town.owner.id}%2Fthing")
        for name in ("a.txt", file_id)
    ] + [f"portico://stores/{name}/themes" for name in ("thing", ref)]
    async with (
        httpx.AsyncClient(headers=town.other.headers, timeout=60) as client,
        streamable_http_client(f"{town.api_server.url}/mcp", http_client=client) as streams,
        ClientSession(streams[0], streams[1]) as mcp_session,
    ):
        await mcp_session.initialize()
        assert not [
            store_spelling
            for store_spelling in (await mcp_session.list_resources()).resources
            if "thing" in str(store_spelling.uri)
        ]
        for address in addresses:
            with pytest.raises(MCPError) as error:
                await mcp_session.read_resource(address)
            assert "secret" not in str(error.value)


# --- other access paths: flows, MCP, references in responses
# --------------------------------------------------------


async def in_flow(caller: Caller, step: dict[str, Any]) -> bool:
    verdict = await caller.done("POST", "/api/flows/check", {"flow": {"portico_flow": 1, "step": step}})
    return bool(verdict["ok"])


async def in_response(caller: Caller, **more: Any) -> bool:
    answer = await caller("POST", "/v1/responses", {"model": "voice", "input": "Hello", **more})
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 200


async def trained(caller: Caller, _name: str) -> str:
    """Register a model trained for a key, as training does."""
    voice = FixedModel("Hello.", name=TRAINED)
    voice.card = replace(voice.card, owner=caller.id)
    caller.api_server.add(voice)
    return TRAINED


async def prompts_of(caller: Caller) -> set[str]:
    async with (
        httpx.AsyncClient(headers=caller.headers, timeout=60) as client,
        streamable_http_client(f"{caller.api_server.url}/mcp", http_client=client) as streams,
        ClientSession(streams[0], streams[1]) as mcp_session,
    ):
        await mcp_session.initialize()
        prompts = (await mcp_session.list_prompts()).prompts
        return {prompt_entry.name for prompt_entry in prompts if not prompt_entry.name.startswith("portico/")}


Way = Callable[[Caller, str], Awaitable[bool]]

WAYS: Final[Mapping[str, Mapping[str, tuple[Make, Way]]]] = {
    "store": {
        "flow": (store, lambda who, _ref: in_flow(who, step("store"))),
        "response": (
            store,
            lambda who, ref: in_response(
                who, tools=[{"type": "file_search", "vector_store_ids": [ref]}], tool_choice="none"
            ),
        ),
    },
    "app": {
        "flow": (app, lambda who, _ref: in_flow(who, step("app"))),
        "agent step": (app, lambda who, _ref: in_flow(who, {"op": "agent", "name": "s", "agent": "thing"})),
        "response": (app, lambda who, ref: in_response(who, model=ref)),
    },
    "agent": {
        "flow": (agent, lambda who, _ref: in_flow(who, step("app"))),
        "agent step": (agent, lambda who, _ref: in_flow(who, {"op": "agent", "name": "s", "agent": "thing"})),
        "response": (agent, lambda who, ref: in_response(who, model=ref)),
    },
    "app as a model": {
        "flow": (
            app,
            lambda who, _ref: in_flow(who, {"op": "llm", "name": "s", "model": "thing", "user": "x"}),
        ),
    },
    "trained model": {
        "flow": (
            trained,
            lambda who, ref: in_flow(who, {"op": "llm", "name": "s", "model": ref, "user": "x"}),
        ),
        "response": (trained, lambda who, ref: in_response(who, model=ref)),
    },
    "tool": {"flow": (described, lambda who, _ref: in_flow(who, step("tool")))},
    "prompt": {
        "response": (prompt, lambda who, ref: in_response(who, prompt={"id": ref})),
        "mcp": (prompt, lambda who, _ref: _has(prompts_of(who), "thing")),
    },
    "skill": {
        "tool": (skill, lambda who, ref: reads_skill(who, ref)),
        "agent": (skill, lambda who, ref: has_skill(who, ref)),
    },
    "container": {
        "response": (
            container,
            lambda who, ref: in_response(who, tools=[{"type": "code_interpreter", "container": ref}]),
        )
    },
    "conversation": {"response": (conversation, lambda who, ref: in_response(who, conversation=ref))},
    "response": {"response": (response, lambda who, ref: in_response(who, previous_response_id=ref))},
}
"""The access paths beside a noun's own paths: how to create a resource, and whether a caller reaches it that way."""

NO_OTHER_WAY: Final = frozenset(
    {
        *("worker", "file", "upload", "session", "stored chat", "run", "artifact", "question"),
        *("batch", "message batch", "evaluation", "improvement", "job", "fact", "webhook", "schedule"),
    }
)
"""Nouns that no flow and no prompt names; for ids in bodies, see the test of ids in bodies above."""


async def reads_skill(who: Caller, ref: str) -> bool:
    answer = await who("POST", "/api/tools/read_skill/call", {"arguments": {"skill": ref}})
    return answer.status_code == 200 and not answer.json()["is_error"]


async def has_skill(who: Caller, ref: str) -> bool:
    spec = {"portico_agent": 1, "model": "voice", "skills": [ref]}
    answer = await who("POST", "/api/agents/check", {"agent": spec})
    return answer.status_code == 200 and bool(answer.json()["ok"])


async def _has(found: Awaitable[set[str]], name: str) -> bool:
    return name in await found


async def test_every_resource_type_lists_its_indirect_access_paths() -> None:
    assert set(NOUNS) == (set(WAYS) - {"trained model"}) | NO_OTHER_WAY


@pytest.mark.parametrize(("noun", "way"), [(noun, way) for noun, ways in WAYS.items() for way in ways])
async def test_no_indirect_path_reaches_a_resource_of_another_key(town: Town, noun: str, way: str) -> None:
    make, reaches = WAYS[noun][way]
    ref = await make(town.owner, "thing")
    assert await reaches(town.owner, ref)
    assert not await reaches(town.other, ref)
