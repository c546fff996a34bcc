"""Canaries over HTTP: who gets which side, what is counted, and how a canary ends."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from sqlalchemy import Connection, text
from tests.api_server import ApiServer, RelayModel, api_server
from tests.registry_fixture import FixedModel

from portico_server.config import parse
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, EngineFailed, InvalidRequest, PorticoError
from portico_server.core.principal import SYSTEM
from portico_server.core.relay import Relay, RelayResponse
from portico_server.db import canaries as rows

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = itertools.count()


def answer(said: str) -> bytes:
    message = {"role": "assistant", "content": said}
    return orjson.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


class Speaker(RelayModel):
    """A model that returns its name, whole or streamed, or fails with ``error``."""

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        if request.stream:
            delta = {"index": 0, "delta": {"content": self.card.name}}
            self._chunks = (b"data: %s\n\n" % orjson.dumps({"choices": [delta]}), b"data: [DONE]\n\n")
        elif self._error is None:
            self._chunks = (answer(self.card.name),)
        return await super().relay(request, context)


@dataclass(frozen=True, slots=True)
class Splitter:
    """An admin, a caller, and a separate alias in each test."""

    served: ApiServer
    secrets: dict[str, str]
    alias: str

    async def ask(
        self, method: str, path: str, body: Any = None, status: int = 200, key: str = "admin"
    ) -> Any:
        headers = {"authorization": f"Bearer {self.secrets[key]}"}
        response = await self.served.client.request(method, path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()["error"] if status >= 400 else response.json()

    async def means(self, target: str) -> None:
        await self.ask("PUT", f"/api/aliases/{self.alias}", {"target": target})

    async def split(self, target: str, status: int = 200, **fields: Any) -> Any:
        return await self.ask("PUT", f"/api/canaries/{self.alias}", {"target": target, **fields}, status)

    async def canary(self) -> Any:
        return await self.ask("GET", f"/api/canaries/{self.alias}")

    async def said(self, words: str = "hello", key: str = "reader", status: int = 200, **more: Any) -> str:
        body = {"model": self.alias, "messages": [{"role": "user", "content": words}], **more}
        answer = await self.ask("POST", "/v1/chat/completions", body, status, key)
        return str(answer["code"] if status >= 400 else answer["choices"][0]["message"]["content"])

    async def ended(self) -> Any:
        """Return the canary as soon as its rule has ended it."""
        while (canary := await self.canary())["status"] == "running":  # noqa: ASYNC110
            await asyncio.sleep(0)
        return canary


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("canaries"), require_key=True) as server:
        broken_model = Speaker("broken", error=EngineFailed("It fell."))
        picky = Speaker("picky", error=InvalidRequest("Not so."))
        server.add(Speaker("old"), Speaker("new"), broken_model, picky)
        server.add(RelayModel("vectors", b"{}", capabilities=frozenset({"embeddings"})))
        server.add(FixedModel("one", name="first"), FixedModel("two", name="second"))
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def splitter(served: ApiServer) -> Splitter:
    secrets = {}
    for name, scopes in (("admin", ("admin",)), ("reader", ("chat", "apps:*:call")), ("tester", ("chat",))):
        _row, secrets[name] = await served.auth.create(name, scopes)
    return Splitter(served, secrets, f"alias{next(NUMBERS)}")


async def test_conversations_are_split_by_weight_and_keep_their_model(splitter: Splitter) -> None:
    await splitter.means("old")
    canary = await splitter.split("new", weight=0.5)
    assert (canary["status"], canary["sticky"]) == ("running", "session")
    assert canary["waits_for"] == ["an admin who promotes it"]
    sides = [await splitter.said(f"Question {n}") for n in range(40)]
    assert set(sides) == {"old", "new"}
    later = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "more"}]
    for n in range(5):
        body = {"messages": [{"role": "user", "content": f"Question {n}"}, *later]}
        assert await splitter.said(**body) == sides[n]
    # A larger weight moves more callers to the canary, and none away from it.
    await splitter.split("new", weight=0.8)
    assert {await splitter.said(f"Question {n}") for n in range(40) if sides[n] == "new"} == {"new"}
    state = await splitter.canary()
    assert state["baseline"]["calls"] + state["canary"]["calls"] == 45 + sides.count("new")
    assert state["canary"]["tokens"] == 5 * state["canary"]["calls"]
    assert [entry["action"] for entry in state["journal"]] == ["set", "set"]


async def test_a_listed_key_always_gets_the_canary_and_usage_names_the_answering_model(
    splitter: Splitter,
) -> None:
    await splitter.means("old")
    canary = await splitter.split("new", keys=["tester"])
    assert canary["keys"] == ["tester"]
    assert {await splitter.said(f"{n}", key="reader") for n in range(5)} == {"old"}
    assert {await splitter.said(f"{n}", key="tester") for n in range(5)} == {"new"}
    body = {"model": splitter.alias, "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {splitter.secrets['tester']}"}
    stream = await splitter.served.client.post("/v1/chat/completions", json=body, headers=headers)
    assert '"new"' in stream.text and stream.text.endswith("data: [DONE]\n\n")
    state = await splitter.canary()
    assert (state["baseline"]["calls"], state["canary"]["calls"]) == (5, 6)
    await splitter.served.services.usage.flush()
    models = await splitter.served.services.database.read(_models, splitter.alias)
    assert sorted(models) == ["new"] * 6 + ["old"] * 5
    assert (await splitter.split("new", 404, keys=["testr"]))["param"] == "keys[0]"


def _models(connection: Connection, name: str) -> list[str]:
    query = text("select model from usage where name = :name").bindparams(name=name)
    return list(connection.execute(query).scalars())


async def test_versions_of_an_app_are_split_and_one_is_promoted(splitter: Splitter) -> None:
    name = f"app-{splitter.alias}"
    for model in ("first", "second"):
        spec = {"portico_flow": 1, "step": {"op": "llm", "model": model}}
        await splitter.ask("POST", "/api/apps", {"name": name, "kind": "flow", "spec": spec})
    await splitter.means(name)
    refusal = await splitter.split(f"{name}@2", 400, weight=0.5)
    assert refusal["code"] == "version_needed" and f"'{name}@2'" in refusal["message"]
    await splitter.means(f"{name}@1")
    assert await splitter.said() == "one"
    models_page = await splitter.ask("GET", "/v1/models", key="reader")
    assert splitter.alias in {entry["id"] for entry in models_page["data"]}
    await splitter.split(f"{name}@2", weight=0.5, sticky="request")
    sides = [await splitter.said("same") for _ in range(30)]
    assert set(sides) == {"one", "two"}
    run = await splitter.ask(
        "POST", f"/api/apps/{splitter.alias}/run?stream=false", {"input": "x"}, key="reader"
    )
    assert run["output"] in ("one", "two")
    canary = await splitter.canary()
    assert canary["baseline"]["calls"] + canary["canary"]["calls"] == 31
    await splitter.served.services.usage.flush()
    models = await splitter.served.services.database.read(_models, splitter.alias)
    assert models.count(f"{name}@2") == canary["canary"]["calls"]
    # The two sides of a split remain.
    assert (await splitter.ask("DELETE", f"/api/apps/{name}", status=409))["code"] == "canary_running"
    conflict = await splitter.ask("PUT", f"/api/aliases/{splitter.alias}", {"target": "old"}, 409)
    assert conflict["code"] == "canary_running"
    promotion = await splitter.ask(
        "POST", f"/api/canaries/{splitter.alias}/promote", {"reason": "It is good."}
    )
    assert (promotion["status"], promotion["reason"], promotion["waits_for"]) == (
        "promoted",
        "It is good.",
        [],
    )
    assert promotion["journal"][0]["by"] is not None
    assert {await splitter.said(f"{n}") for n in range(10)} == {"two"}
    again = await splitter.ask("POST", f"/api/canaries/{splitter.alias}/rollback", {}, 409)
    assert again["code"] == "canary_ended"


async def test_rules_end_a_canary_with_reason_figures_and_an_event(splitter: Splitter) -> None:
    await splitter.means("old")
    hook = {"name": "hook", "url": "https://example.org/hook", "event_types": ["canary.rolled_back"]}
    await splitter.ask("POST", "/v1/webhook_endpoints", hook)
    rule = {"after": 4, "max_error_rate": 0.5}
    await splitter.split("broken", weight=1, rollback=rule)
    for n in range(4):
        assert await splitter.said(f"{n}", status=502) == "engine_failed"
    canary = await splitter.canary()
    assert canary["status"] == "rolled_back" and "100.00%" in canary["reason"]
    entry = canary["journal"][0]
    assert (entry["action"], entry["by"]) == ("rolled_back", None)
    assert entry["figures"]["canary"]["errors"] == 4
    assert await splitter.said() == "old"
    event_texts = await splitter.served.services.database.read(_events)
    assert canary["id"] in " ".join(event_texts)
    # A caller's invalid request says nothing about a side.
    await splitter.split("picky", weight=1, promote={"after": 1}, rollback={"after": 1, "max_error_rate": 0})
    await splitter.said(status=400)
    canary = await splitter.canary()
    assert (canary["status"], canary["canary"]["calls"]) == ("running", 0)
    await splitter.ask("POST", f"/api/canaries/{splitter.alias}/rollback", {})
    # All conditions are met.
    await splitter.split("new", weight=1, promote={"after": 3, "max_error_rate": 0})
    for n in range(3):
        await splitter.said(f"{n}")
    assert (await splitter.canary())["status"] == "promoted"
    aliases = await splitter.ask("GET", "/api/aliases")
    assert {"name": splitter.alias, "target": "new"} in aliases["data"]
    history = await splitter.ask("GET", f"/api/canaries/{splitter.alias}/history")
    assert [item["status"] for item in history["data"]] == ["promoted", "rolled_back", "rolled_back"]


def _events(connection: Connection) -> list[str]:
    query = text("select payload from webhook_deliveries where event_type = 'canary.rolled_back'")
    return list(connection.execute(query).scalars())


async def test_a_canary_that_starts_while_another_ends_splits_its_calls(
    splitter: Splitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary that starts while another ends splits its calls: the end of the first is still being adopted."""
    await splitter.means("old")
    await splitter.split("new", weight=1.0)
    database, target = splitter.served.services.database, rows.alias_target
    ending, begin_event = asyncio.Event(), asyncio.Event()
    read = database.read

    async def slowly(function: Any, *given: Any) -> Any:
        result = await read(function, *given)
        if function is target and given == (splitter.alias,) and not ending.is_set() and ended:
            ending.set()
            await begin_event.wait()
        return result

    ended = False
    routing = splitter.served.services.features.find("canaries").routing
    restore = routing.restore

    async def restoring(alias: str) -> None:
        nonlocal ended
        ended = True
        await restore(alias)

    monkeypatch.setattr(database, "read", slowly)
    monkeypatch.setattr(routing, "restore", restoring)
    async with asyncio.timeout(60):
        first = asyncio.create_task(splitter.ask("POST", f"/api/canaries/{splitter.alias}/rollback", {}))
        await ending.wait()
        await splitter.split("new", weight=1.0)
        begin_event.set()
        await first
        assert await splitter.said() == "new"


@pytest.mark.parametrize("is_adopted", [False, True], ids=["set", "adopted"])
async def test_a_canary_rolled_back_before_its_split_is_installed_stays_ended(
    splitter: Splitter, monkeypatch: pytest.MonkeyPatch, is_adopted: bool
) -> None:
    services = splitter.served.services
    routing = services.features.find("canaries").routing
    install = routing.install

    async def install_late(row: rows.CanaryRow) -> None:
        if row.alias == splitter.alias:
            monkeypatch.setattr(routing, "install", install)
            await splitter.ask("POST", f"/api/canaries/{splitter.alias}/rollback", {})
        await install(row)

    await splitter.means("old")
    if is_adopted:
        await splitter.split("new", weight=1)
        services.registry.aliases.remove(splitter.alias)
    monkeypatch.setattr(routing, "install", install_late)
    if is_adopted:
        await routing.refresh()
    else:
        assert (await splitter.split("new", weight=1))["status"] == "rolled_back"
    assert await splitter.said() == "old"


async def test_live_answers_are_judged_and_the_better_one_is_promoted(splitter: Splitter) -> None:
    await splitter.means("old")
    check = {"type": "string_check", "name": "new", "operation": "eq", "input": "{{sample.output_text}}"}
    data_source = {"type": "custom", "item_schema": {"type": "object"}}
    for name, reference in ((splitter.alias, "new"), (f"{splitter.alias}-set", "{{item.capital}}")):
        criteria = [{**check, "reference": reference}]
        test = {"name": name, "data_source_config": data_source, "testing_criteria": criteria}
        await splitter.ask("POST", "/v1/evals", test, 201)
    refusal = await splitter.split("new", 400, weight=0.5, eval=f"{splitter.alias}-set")
    assert (refusal["code"], refusal["param"]) == ("needs_reference", "eval")
    assert "item.capital" in refusal["message"]
    assert (await splitter.split("new", 404, weight=0.5, eval="none"))["param"] == "eval"
    rule = {"after": 4, "min_samples": 2, "min_score": 0.9, "max_drop": 0}
    await splitter.split("new", keys=["tester"], eval=splitter.alias, sample=1, promote=rule)
    for n in range(2):
        await splitter.said(f"{n}")
        await splitter.said(f"{n}", key="tester")
        body = {"model": splitter.alias, "stream": True, "messages": [{"role": "user", "content": "x"}]}
        headers = {"authorization": f"Bearer {splitter.secrets['tester']}"}
        await splitter.served.client.post("/v1/chat/completions", json=body, headers=headers)
    canary = await splitter.ended()
    assert canary["status"] == "promoted" and "above the baseline's" in canary["reason"]
    assert canary["canary"]["score"] == 1 and canary["baseline"]["score"] == 0
    assert await splitter.said() == "new"


async def test_a_canary_with_an_invalid_target_is_refused(splitter: Splitter) -> None:
    await splitter.means("old")
    second_alias = f"{splitter.alias}-other"
    await splitter.ask("PUT", f"/api/aliases/{second_alias}", {"target": "new"})
    for target, status, code, says in (
        ("old", 400, None, "already points to 'old'"),
        (splitter.alias, 400, None, "already"),
        (second_alias, 400, None, "is itself an alias"),
        ("nobody", 404, "model_not_found", "NAME@NUMBER"),
        ("old@1", 404, "model_not_found", "NAME@NUMBER"),
        ("vectors", 400, "unsupported_operation", "does not support chat"),
    ):
        refusal = await splitter.split(target, status, weight=0.5)
        assert says in refusal["message"] and refusal["param"] == "target"
        assert code is None or refusal["code"] == code
    assert (await splitter.split("new", 400, weight=2))["param"] == "weight"
    missing = await splitter.ask("PUT", "/api/canaries/nowhere", {"target": "new", "weight": 1}, 404)
    assert missing["code"] == "alias_not_found"
    await splitter.split("new", weight=0.5)
    assert (await splitter.split("broken", 409, weight=0.5))["code"] == "canary_running"
    for method, path in (("GET", ""), ("PUT", f"/{splitter.alias}"), ("GET", f"/{splitter.alias}")):
        body = {"target": "new", "weight": 1} if method == "PUT" else None
        await splitter.ask(method, f"/api/canaries{path}", body, 403, key="reader")


async def test_a_guard_on_baseline_or_canary_applies_to_the_whole_split(splitter: Splitter) -> None:
    services = splitter.served.services
    await splitter.means("old")
    await splitter.split("new", weight=1)
    split = services.registry.get(splitter.alias)
    assert split is not None
    names = getattr(split, "names", frozenset())
    assert names == {"old", "new", splitter.alias}


async def test_the_end_of_a_canary_is_written_atomically(
    splitter: Splitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end is written completely or not at all.

    A `kill -9` between the decision and its journal leaves neither, and the counts are recorded later.
    """
    await splitter.means("old")
    await splitter.split("new", weight=1, promote={"after": 2})

    def dies(*_arguments: Any) -> None:
        raise EngineFailed("Killed.")

    with monkeypatch.context() as patch:
        patch.setattr("portico_server.db.webhooks.announce", dies)
        for n in range(2):
            await splitter.said(f"{n}")
        canary = await splitter.canary()
    assert (canary["status"], canary["canary"]["calls"], len(canary["journal"])) == ("running", 0, 1)
    canary = await splitter.canary()
    assert (canary["status"], canary["canary"]["calls"], len(canary["journal"])) == ("promoted", 2, 2)


async def test_a_configuration_creates_a_canary_once_and_applies_later_changes(
    splitter: Splitter, tmp_path: Path
) -> None:
    reconciler = splitter.served.services.reconciler

    async def applied(
        target: str, canary: dict[str, Any] | None = None, *, dry_run: bool = False
    ) -> tuple[str, tuple[str, ...]]:
        entry = {"name": splitter.alias, "target": target, "canary": canary}
        configuration = parse({"aliases": [entry]}, tmp_path, {})
        [done] = await reconciler.apply(configuration, SYSTEM, dry_run=dry_run)
        return done.action, done.detail

    assert await applied("old", dry_run=True) == ("create", ())
    for action in ("create", "unchanged"):
        assert await applied("old") == (action, ())
    fresh: dict[str, Any] = {"target": "new", "weight": 1}
    assert await applied("old", fresh, dry_run=True) == ("change", ("canary",))
    assert await applied("old", fresh) == ("change", ("canary",))
    assert await applied("old", fresh) == ("unchanged", ())
    assert await splitter.said() == "new"
    # Other rules are adopted, and the counts remain.
    ruled = {**fresh, "promote": {"after": 2}}
    assert await applied("old", ruled) == ("change", ("canary",))
    assert (await splitter.canary())["canary"]["calls"] == 1
    assert await splitter.said() == "new"
    assert (await splitter.ended())["status"] == "promoted"
    # The file's condition has already occurred: the alias is not reset.
    for canary_entry in (ruled, fresh):
        assert await applied("old", canary_entry) == ("unchanged", ())
    assert await applied("new") == ("unchanged", ())
    # A canary that was rolled back does not start again until the file changes.
    back = {"target": "broken", "weight": 1, "rollback": {"after": 1, "max_error_rate": 0.5}}
    assert await applied("new", back) == ("change", ("canary",))
    await splitter.said(status=502)
    assert (await splitter.ended())["status"] == "rolled_back"
    assert await applied("new", back) == ("unchanged", ())
    assert await applied("new", {**back, "weight": 0.5}) == ("change", ("canary",))
    for target, canary in (("new", fresh | {"target": "picky"}), ("old", back), ("old", None)):
        with pytest.raises(Conflict) as conflict:
            await applied(target, canary)
        assert conflict.value.code == "canary_running"
    await splitter.ask("POST", f"/api/canaries/{splitter.alias}/rollback", {})
    assert await applied("old", {"target": "picky", "weight": 1}) == ("change", ("target", "canary"))
    state = await splitter.canary()
    assert (state["status"], state["baseline"]["target"], state["key"]) == ("running", "old", SYSTEM.id)


async def test_an_invalid_alias_in_a_configuration_is_refused_with_its_place(
    splitter: Splitter, tmp_path: Path
) -> None:
    reconciler = splitter.served.services.reconciler
    entry = {"name": splitter.alias, "target": "old"}
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"target": 7}, "target"),
        ({"canry": {}}, "canry"),
        ({"canary": {"target": "new"}}, "canary.weight"),
        ({"canary": {"target": "new", "wieght": 1}}, "canary.wieght"),
        ({"canary": {"target": "old", "weight": 1}}, "canary.target"),
    )
    for fields, param in wrong:
        with pytest.raises(InvalidRequest) as error_info:
            parse({"aliases": [{**entry, **fields}]}, tmp_path, {})
        assert error_info.value.param == f"aliases[0].{param}"
    model = {"name": "m", "source": "fake://", "aliases": [splitter.alias]}
    with pytest.raises(InvalidRequest, match="Remove it from the model"):
        parse({"models": [model], "aliases": [entry]}, tmp_path, {})
    missing: tuple[tuple[dict[str, Any], str], ...] = (
        ({"target": "nobody"}, "target"),
        ({"canary": {"target": "nwe", "weight": 1}}, "canary.target"),
        ({"canary": {"target": "vectors", "weight": 1}}, "canary.target"),
        ({"canary": {"target": "new", "keys": ["nobody"]}}, "canary.keys[0]"),
        ({"canary": {"target": "new", "weight": 1, "eval": "none"}}, "canary.eval"),
    )
    for fields, param in missing:
        configuration = parse({"aliases": [{**entry, **fields}]}, tmp_path, {})
        with pytest.raises(PorticoError) as error:
            await reconciler.apply(configuration, SYSTEM)
        assert error.value.param == f"aliases[0].{param}"
        assert splitter.alias not in splitter.served.services.registry.aliases
