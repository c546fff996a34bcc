"""Callers that attack canaries: nobody but an admin sees, starts or ends one, and no caller can forge its counts."""

from __future__ import annotations

from typing import Any, Final

import pytest
from tests.server.features.canaries.test_canaries import Speaker, Splitter, served, splitter

__all__ = ["served", "splitter"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES: Final = [
    ("GET", "/api/canaries", None),
    ("GET", "/api/canaries/{alias}", None),
    ("GET", "/api/canaries/{alias}/history", None),
    ("PUT", "/api/canaries/{alias}", {"target": "new", "weight": 1}),
    ("PUT", "/api/canaries/{alias}", {"target": "broken", "weight": 1}),
    ("PUT", "/api/canaries/{alias}", {"target": "new", "weight": 1, "keys": ["admin"]}),
    ("POST", "/api/canaries/{alias}/promote", {}),
    ("POST", "/api/canaries/{alias}/rollback", {"reason": "Mine."}),
    ("PUT", "/api/aliases/{alias}", {"target": "broken"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
async def test_only_an_admin_sees_and_changes_a_canary(
    splitter: Splitter, method: str, path: str, body: Any
) -> None:
    await splitter.means("old")
    canary = await splitter.split("new", weight=0.5)
    path = path.replace("{alias}", splitter.alias)
    for key in ("reader", "tester"):
        assert (await splitter.ask(method, path, body, 403, key))["code"] != "internal_error"
    answer = await splitter.served.client.request(method, path, json=body)
    assert answer.status_code == 401
    assert await splitter.canary() == canary


CHAT: Final = {"messages": [{"role": "user", "content": "hello"}]}
NOT_COUNTED: Final = {
    "no messages": {},
    "messages of a wrong type": {"messages": "hello"},
    "an unknown role": {"messages": [{"role": "canary", "content": "hello"}]},
    "a temperature out of range": {**CHAT, "temperature": 9},
    "tokens out of range": {**CHAT, "max_tokens": -1},
    "no choice": {**CHAT, "n": 0},
    "too many stops": {**CHAT, "stop": ["a"] * 100},
    "metadata out of bounds": {**CHAT, "metadata": {"canary": "x" * 100_000}},
    "a side": {**CHAT, "model": "{alias}@canary"},
}


@pytest.mark.parametrize("case", NOT_COUNTED)
async def test_an_invalid_request_does_not_count_as_a_canary_error(splitter: Splitter, case: str) -> None:
    await splitter.means("picky")
    rollback = {"after": 1, "max_error_rate": 0}
    await splitter.split("new", weight=1, rollback=rollback)
    body: dict[str, Any] = {"model": splitter.alias, **NOT_COUNTED[case]}
    body["model"] = body["model"].replace("{alias}", splitter.alias)
    headers = {"authorization": f"Bearer {splitter.secrets['reader']}", "x-portico-side": "baseline"}
    answer = await splitter.served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.status_code in (400, 404, 422), answer.text
    canary = await splitter.canary()
    assert (canary["status"], canary["canary"]["errors"], canary["baseline"]["calls"]) == ("running", 0, 0)


async def test_a_private_model_or_invalid_name_is_refused_as_canary_target(splitter: Splitter) -> None:
    """Not even for an admin: the calls of all keys would reach the model of one."""
    row, _secret = await splitter.served.auth.create("owner", ("chat",))
    splitter.served.add(Speaker("hidden", owner=row.id))
    await splitter.means("old")
    for target in ("hidden", f"store/{splitter.alias}", "../old", "old\x00", "o" * 200, "*"):
        refusal = await splitter.split(target, 404, weight=1)
        assert refusal["code"] == "model_not_found"


async def test_a_failing_canary_is_rolled_back_without_revealing_its_target(splitter: Splitter) -> None:
    await splitter.means("old")
    await splitter.split("broken", weight=1, rollback={"after": 3, "max_error_rate": 0.5})
    for _ in range(3):
        answer = await splitter.served.client.post(
            "/v1/chat/completions",
            json={"model": splitter.alias, **CHAT},
            headers={"authorization": f"Bearer {splitter.secrets['reader']}"},
        )
        assert answer.status_code == 502 and "Traceback" not in answer.text
    assert (await splitter.ended())["status"] == "rolled_back"
    assert await splitter.said() == "old"
