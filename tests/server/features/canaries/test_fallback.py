"""Canaries that answer only where they are sure: the baseline answers elsewhere, and is asked for comparison."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator

import orjson
import pytest
import pytest_asyncio
from tests.api_server import ApiServer, RelayModel, api_server
from tests.server.features.canaries.test_canaries import Splitter

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed
from portico_server.core.relay import Relay, RelayResponse

pytestmark = pytest.mark.asyncio(loop_scope="module")

NUMBERS = itertools.count()


class Labeller(RelayModel):
    """A model that labels each message with ``label``, and is sure unless the message contains ``hard``."""

    label = "refund"

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        question = request.body["messages"][-1]["content"]
        if "fails" in question and self.card.name == "small":
            raise EngineFailed("It fell.")
        word = self.label if "hard" not in question else f"unsure {self.card.name}"
        chance = 0.2 if "hard" in question else 0.99
        logprobs = {
            "content": [{"token": word, "logprob": math.log(chance), "bytes": None, "top_logprobs": []}]
        }
        message = {"role": "assistant", "content": word}
        choice = {"index": 0, "logprobs": logprobs if request.body.get("logprobs") else None}
        if request.stream:
            self._chunks = (
                b"data: %s\n\n" % orjson.dumps({"choices": [{**choice, "delta": message}]}),
                b"data: [DONE]\n\n",
            )
        else:
            self._chunks = (orjson.dumps({"choices": [{**choice, "message": message}]}),)
        return await super().relay(request, context)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path_factory.mktemp("fallback"), require_key=True) as server:
        server.add(Labeller("large"), Labeller("small"))
        yield server


@pytest_asyncio.fixture(loop_scope="module")
async def splitter(served: ApiServer) -> Splitter:
    secrets = {}
    for name, scopes in (("admin", ("admin",)), ("reader", ("chat", "apps:*:call"))):
        _row, secrets[name] = await served.auth.create(name, scopes)
    splitter = Splitter(served, secrets, f"label{next(NUMBERS)}")
    await splitter.means("large")
    return splitter


async def test_the_baseline_answers_where_the_canary_is_unsure_or_fails(splitter: Splitter) -> None:
    split_canary = await splitter.split("small", weight=1, min_confidence=0.9)
    assert split_canary["min_confidence"] == 0.9
    assert await splitter.said("easy") == "refund"
    assert await splitter.said("hard") == "unsure large"
    assert await splitter.said("it fails") == "refund"
    canary = await splitter.canary()
    assert (canary["canary"]["calls"], canary["canary"]["errors"], canary["baseline"]["calls"]) == (2, 1, 2)
    # Log probabilities are returned to callers that request them, and to no others.
    body = {"model": splitter.alias, "messages": [{"role": "user", "content": "easy"}]}
    for logprobs in (False, True):
        answer = await splitter.ask(
            "POST", "/v1/chat/completions", {**body, "logprobs": logprobs}, key="reader"
        )
        assert (answer["choices"][0]["logprobs"] is not None) == logprobs
    headers = {"authorization": f"Bearer {splitter.secrets['reader']}"}
    for question, word in (("easy", "refund"), ("hard", "unsure large")):
        body = {**body, "messages": [{"role": "user", "content": question}], "stream": True}
        stream = await splitter.served.client.post("/v1/chat/completions", json=body, headers=headers)
        assert word in stream.text and stream.text.endswith("data: [DONE]\n\n")
    # An app that calls the alias gets the same answers.
    flow = {"portico_flow": 1, "step": {"op": "llm", "model": splitter.alias}}
    name = f"app-{splitter.alias}"
    await splitter.ask("POST", "/api/apps", {"name": name, "kind": "flow", "spec": flow})
    for question, word in (("easy", "refund"), ("hard", "unsure large")):
        run = await splitter.ask(
            "POST", f"/api/apps/{name}/run?stream=false", {"input": question}, key="reader"
        )
        assert run["output"] == word


async def test_a_promoted_canary_keeps_its_fallback_and_is_rolled_back_on_drift(splitter: Splitter) -> None:
    rules = {
        "promote": {"after": 5, "min_samples": 5, "min_score": 0.95},
        "rollback": {"min_samples": 5, "min_score": 0.9},
    }
    await splitter.split("small", weight=0.9, min_confidence=0.9, sample=1, **rules)

    async def until(action: str) -> None:
        numbers = itertools.count()
        while (await splitter.canary())["journal"][0]["action"] != action:
            await splitter.said(f"easy {next(numbers)}")
            await asyncio.sleep(0)

    await until("promoted")
    canary = await splitter.canary()
    assert (canary["status"], canary["weight"], canary["canary"]["score"]) == ("running", 1, 1)
    assert await splitter.said("hard") == "unsure large"
    large = splitter.served.services.registry.get("large")
    assert isinstance(large, Labeller)
    large.label = "delivery"
    try:
        await until("rolled_back")
        assert await splitter.said("easy") == "delivery"
    finally:
        del large.label
    assert (await splitter.canary())["status"] == "rolled_back"


async def test_a_confidence_threshold_is_refused_for_app_versions(splitter: Splitter) -> None:
    name = f"versions-{splitter.alias}"
    for model in ("large", "small"):
        flow = {"portico_flow": 1, "step": {"op": "llm", "model": model}}
        await splitter.ask("POST", "/api/apps", {"name": name, "kind": "flow", "spec": flow})
    await splitter.means(f"{name}@1")
    error = await splitter.split(f"{name}@2", 400, weight=0.5, min_confidence=0.9)
    assert error["param"] == "min_confidence"
