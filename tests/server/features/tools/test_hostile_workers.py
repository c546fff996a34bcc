"""Workers that attack others over HTTP: forged claims and answers, names of existing tools, values without bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
import pytest_asyncio
from tests.api_server import ApiServer, api_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADD: Final[dict[str, Any]] = {"name": "add", "input_schema": {"type": "object"}}
LEASE: Final[dict[str, Any]] = {"lease_seconds": 60, "limit": 100, "wait": 30}


@dataclass(frozen=True, slots=True)
class Callers:
    """Keys of a daemon: an admin, two keys that may call every tool, and one that may only chat."""

    served: ApiServer
    secrets: dict[str, str]

    async def ask(self, key: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {self.secrets[key]}"}
        answer = await self.served.client.request(method, path, json=body, headers=headers, timeout=60)
        return answer.status_code, answer.json()

    async def claim(self, key: str, worker: str = "w") -> str:
        """Return the id of the next call of a worker."""
        status, claims = await self.ask(key, "POST", f"/api/workers/{worker}/claim", LEASE)
        assert status == 200, claims
        return str(claims["data"][0]["id"])

    async def call(self, key: str) -> asyncio.Task[tuple[int, Any]]:
        """Call the function ``add``."""
        return asyncio.create_task(self.ask(key, "POST", "/api/tools/add/call", {"arguments": {}}))

    async def answer(self, key: str, question: str, value: Any, **fields: Any) -> tuple[int, Any]:
        body = {"accepted": True, "value": value, "worker": "w", **fields}
        return await self.ask(key, "POST", f"/api/questions/{question}/answer", body)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("workers"), require_key=True) as server:
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def callers(served: ApiServer) -> AsyncIterator[Callers]:
    scopes = {
        "admin": ("admin",),
        "anna": ("chat", "tools:*:call"),
        "bert": ("chat", "tools:*:call"),
        "carl": ("chat",),
    }
    secrets = {name: (await served.auth.create(name, scope))[1] for name, scope in scopes.items()}
    callers = Callers(served, secrets)
    yield callers
    for key in secrets:
        await callers.ask(key, "DELETE", "/api/workers/w")


async def test_calls_of_a_key_cannot_be_claimed_or_answered_by_other_keys(callers: Callers) -> None:
    for key in ("anna", "bert"):
        assert (await callers.ask(key, "POST", "/api/workers", {"worker": "w", "functions": [ADD]}))[0] == 200
    call = await callers.call("anna")
    question = await callers.claim("anna")
    body = {**LEASE, "wait": 0, "holding": [question]}
    status, claims = await callers.ask("bert", "POST", "/api/workers/w/claim", body)
    assert (status, claims) == (200, {"data": [], "lost": [question]})
    claim_body = {"worker": "w", "names": ["add", "tool/add"], "holding": [question]}
    status, claims = await callers.ask("bert", "POST", "/api/questions/claim", claim_body)
    assert (status, claims["data"]) == (200, [])
    for key in ("bert", "carl"):
        assert (await callers.ask(key, "GET", f"/api/questions/{question}"))[0] == 404
        assert (await callers.answer(key, question, "forged"))[0] == 404
        assert (await callers.ask(key, "GET", "/api/questions"))[1]["data"] == []
    assert (await callers.ask("carl", "POST", "/api/workers/w/claim", LEASE))[0] == 404
    assert (await callers.ask("bert", "DELETE", "/api/workers/w"))[0] == 200, "its own worker of that name"
    assert [worker["name"] for worker in (await callers.ask("anna", "GET", "/api/workers"))[1]["data"]] == [
        "w"
    ]
    assert (await callers.answer("anna", question, "right"))[0] == 200
    assert (await callers.answer("anna", question, "late"))[0] == 409
    assert (await call)[1]["text"] == "right"


async def test_a_caller_cannot_answer_for_the_worker_of_a_shared_function(callers: Callers) -> None:
    assert (await callers.ask("admin", "POST", "/api/workers", {"worker": "w", "functions": [ADD]}))[0] == 200
    call = await callers.call("bert")
    while not (questions := (await callers.ask("bert", "GET", "/api/questions"))[1]["data"]):
        pass
    question = questions[0]["id"]
    claim_body = {"worker": "w", "names": ["add", "tool/add"], "holding": [question]}
    status, claims = await callers.ask("bert", "POST", "/api/questions/claim", claim_body)
    assert (status, claims["data"]) == (200, [])
    assert await callers.claim("admin") == question
    for fields in ({}, {"accepted": False}, {"worker": ""}):
        assert (await callers.answer("bert", question, "forged", **fields))[0] == 403
    assert (await callers.answer("admin", question, "right"))[0] == 200
    assert (await call)[1]["text"] == "right"


JOINS: Final = {
    "the name of a built-in tool": [{**ADD, "name": "current_time"}],
    "a name that needs escaping": [{**ADD, "name": "../add"}],
    "a name of digits": [{**ADD, "name": "1"}],
    "a long name": [{**ADD, "name": "a" * 65}],
    "the same name twice": [ADD, ADD],
    "too many functions": [{**ADD, "name": f"f{number}"} for number in range(1_001)],
    "no function": [],
    "a long description": [{**ADD, "description": "x" * 20_001}],
    "no time": [{**ADD, "timeout": 0}],
    "too much time": [{**ADD, "timeout": 1e300}],
    "a schema of a wrong type": [{**ADD, "input_schema": {"type": "thing"}}],
    "an unknown field": [{**ADD, "owner": "admin"}],
    "an unknown rule": [{**ADD, "approval": "sometimes"}],
}


@pytest.mark.parametrize("case", JOINS)
async def test_invalid_functions_of_a_worker_are_refused(callers: Callers, case: str) -> None:
    status, answer = await callers.ask(
        "anna", "POST", "/api/workers", {"worker": "w", "functions": JOINS[case]}
    )
    assert status in (400, 409, 422), answer
    assert (await callers.ask("anna", "GET", "/api/workers"))[1]["data"] == []


@pytest.mark.parametrize("reference", ["http://127.0.0.1/schema", "file:///etc/passwd", "#", "#/none"])
async def test_an_external_or_invalid_reference_in_a_schema_is_refused(
    callers: Callers, reference: str
) -> None:
    function = {**ADD, "input_schema": {"$ref": reference}}
    status, answer = await callers.ask(
        "anna", "POST", "/api/workers", {"worker": "w", "functions": [function]}
    )
    if status == 200:
        status, answer = await callers.ask("anna", "POST", "/api/tools/add/call", {"arguments": {"a": 1}})
    assert status == 400 and "root:" not in str(answer), answer


@pytest.mark.parametrize("key", ["anna", "admin"])
async def test_invalid_or_oversized_answers_of_a_worker_are_refused(callers: Callers, key: str) -> None:
    assert (await callers.ask(key, "POST", "/api/workers", {"worker": "w", "functions": [ADD]}))[0] == 200
    call = await callers.call("anna")
    question = await callers.claim(key)
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    for value, fields in (
        (deep, {}),
        ("a", {"note": "x" * 10_001}),
        ("a", {"run": "run_1"}),
        ("a", {"worker": "w" * 201}),
    ):
        status, answer = await callers.answer(key, question, value, **fields)
        assert status in (400, 422), answer
    assert (await callers.answer(key, question, "x" * 1_000_000))[0] in (200, 413)
    status, answer = await call
    assert status == 200 and len(answer["text"]) < 200_000


async def test_a_worker_that_leaves_gives_its_call_to_the_next(callers: Callers) -> None:
    for worker in ("w", "other"):
        body = {"worker": worker, "functions": [ADD]}
        assert (await callers.ask("anna", "POST", "/api/workers", body))[0] == 200
    call = await callers.call("anna")
    question = await callers.claim("anna")
    await callers.ask("anna", "DELETE", "/api/workers/w")
    assert await callers.claim("anna", "other") == question
    assert (await callers.ask("anna", "POST", "/api/workers/w/claim", LEASE))[0] == 404
    assert (await callers.answer("anna", question, "right", worker="other"))[0] == 200
    assert (await call)[1]["text"] == "right"
    await callers.ask("anna", "DELETE", "/api/workers/other")
