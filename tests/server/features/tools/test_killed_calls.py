"""Calls of tools in durable runs, and `kill -9`: a call under way is repeated with its key, or a person decides."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon
from tests.kills import count_kills
from tests.server.features.flows.outside import Outside
from tests.server.features.flows.steps import pipeline, spec
from tests.server.features.flows.test_killed import KilledDaemon, begin, follow
from tests.server.features.tools import tills

pytestmark = [pytest.mark.process, pytest.mark.process]

KILLS = count_kills(4)
"""Number of moments at which the daemon is killed, for each kind of source."""

ORDERS = 12
"""Number of orders that a run pays."""


class PayingDaemon(KilledDaemon):
    """A daemon whose tools pay at a till, and that is killed when the till has seen some calls."""

    def __init__(self, home: Path, outside: Outside) -> None:
        super().__init__(home, outside)
        self.is_struck = False
        self._has_started = threading.Event()

    def strike_after(self, calls: int, *, responds: bool) -> None:
        """Kill the daemon at the end of a later call. ``responds``: the till sends the response of this call first."""
        spared = iter(range(calls - 1))

        def end_effect(respond: Callable[[], None]) -> None:
            is_last = next(spared, None) is None
            if responds or not is_last:
                respond()
            if is_last:
                assert self._has_started.wait(60)
                self.is_struck = True
                self.running.process.kill()

        self.outside.end_effect = end_effect

    def spare(self) -> None:
        """Let the daemon live until `strike_after` is called."""
        self.outside.end_effect = lambda respond: respond()

    @property
    def running(self) -> Daemon:
        assert self.daemon is not None
        return self.daemon

    def restart(self) -> None:
        """Start the daemon again after its end."""
        self.gone()
        self._has_started.clear()
        self.is_struck = False
        self.start()

    def start(self) -> Daemon:
        daemon = super().start()
        self._has_started.set()
        return daemon

    def next_question(self, run: str, answered_ids: Collection[str]) -> str:
        """Return the id of the question that a run asks after the answered questions."""
        with httpx.stream("GET", f"{self.running.url}/api/runs/{run}/events", timeout=60) as answer:
            for line in answer.iter_lines():
                event = json.loads(line[6:]) if line.startswith("data: ") else {}
                if event.get("type") == "asked" and event["id"] not in answered_ids:
                    return str(event["id"])
        raise AssertionError("the run asked nothing")

    def last_event(self, run: str) -> dict[str, Any]:
        """Return the last event of a run. It is empty if the daemon ended before the first event."""
        return ([{}] + [event for _number, event in follow(self.running, run)])[-1]


@pytest.fixture
def paying(tmp_path: Path) -> Iterator[PayingDaemon]:
    with Outside() as outside:
        daemon = PayingDaemon(tmp_path / "data", outside)
        daemon.start()
        yield daemon
        if not daemon.is_struck:
            daemon.running.stop()
        daemon.gone()


def code_step(*kinds: str) -> dict[str, Any]:
    """Return a step whose code pays orders with tools of these kinds."""
    calls = "\n".join(
        f"    portico.tools.{kind}_pay(**{tills.arguments(kind, 'ORDER')!r})".replace(
            "'ORDER'", f"f'{kind} {{n}}'"
        )
        for kind in kinds
    )
    code = f"for n in range({ORDERS}):\n{calls}\n{ORDERS}"
    return {"op": "tool", "name": "code", "tool": "run_code", "arguments": {"code": code}}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", tills.KINDS)
def test_code_that_is_killed_at_random_moments_pays_each_order_once(
    paying: PayingDaemon, tmp_path: Path, kind: str
) -> None:
    dice = random.Random(f"63 {kind}")
    outside = paying.outside
    tills.add(paying.running.url, kind, outside, tmp_path)
    kills = 0

    def strike() -> None:
        if kills < KILLS:
            paying.strike_after(dice.randint(1, 3), responds=dice.random() < 0.5)
        else:
            paying.spare()

    strike()
    while kills < KILLS:
        run = begin(paying.running, spec(code_step(kind), durability="normal"), "go")
        last: dict[str, Any] = {}
        while last.get("type") not in ("finished", "failed"):
            last = paying.last_event(run)
            if paying.is_struck:
                kills += 1
                strike()
                paying.restart()
        assert last.get("result", {}).get("value") == str(ORDERS), last
        paid = [body for key, body in outside.effects.items() if key.startswith(f"{run}:")]
        assert sorted(map(tills.order_in, paid)) == sorted(f"{kind} {n}" for n in range(ORDERS))
    assert outside.told == [] and "" not in outside.calls, "each order has a key of its own"
    repeats = sum(outside.calls[key] - 1 for key in outside.effects)
    assert repeats <= KILLS, "only calls under way were repeated"


def flow_step(paying: PayingDaemon) -> dict[str, Any]:
    """Return a flow that pays an order with each kind of tool."""
    steps = [
        {"op": "tool", "name": kind, "tool": f"{kind}_pay", "arguments": tills.arguments(kind, kind)}
        for kind in tills.KINDS
    ]
    return pipeline(*steps)


def agent_step(paying: PayingDaemon) -> dict[str, Any]:
    """Return an agent that pays an order with each kind of tool, one after another."""
    conditions = [{"match": "go"}, *({"result": f"order.*{kind}"} for kind in tills.KINDS)]
    calls = [{"name": f"{kind}_pay", "arguments": tills.arguments(kind, kind)} for kind in tills.KINDS]
    answers = [*({"tool_calls": [call]} for call in calls), {"content": "Done."}]
    script = [{**condition, **answer} for condition, answer in zip(conditions, answers, strict=True)]
    script.reverse()  # the first rule that applies answers
    model = {"name": "clerk", "source": "fake://", "parameters": {"script": script}}
    httpx.post(f"{paying.running.url}/api/deployments", json=model, timeout=60).raise_for_status()
    tools = [f"{kind}_pay" for kind in tills.KINDS]
    agent = {"portico_agent": 1, "name": "desk", "model": "clerk", "tools": tools}
    return {"op": "agent", "name": "desk", "agent": agent}


@pytest.mark.slow
@pytest.mark.parametrize("make_step", [flow_step, agent_step])
def test_a_call_under_way_is_repeated_with_its_key(
    paying: PayingDaemon, tmp_path: Path, make_step: Callable[[PayingDaemon], dict[str, Any]]
) -> None:
    """Each call is under way when the daemon is killed."""
    outside = paying.outside
    for kind in tills.KINDS:
        tills.add(paying.running.url, kind, outside, tmp_path)
    step = make_step(paying)
    paying.strike_after(1, responds=False)
    run = begin(paying.running, spec(step, durability="normal"), "go")
    for _kind in tills.KINDS:
        paying.gone()
        paying.strike_after(2, responds=False)
        paying.restart()
    assert paying.last_event(run)["type"] == "finished"
    assert sorted(map(tills.order_in, outside.effects.values())) == sorted(tills.KINDS)
    assert outside.told == [] and all(key.startswith(f"{run}:") for key in outside.effects)
    assert [outside.calls[key] for key in outside.effects] == [2] * len(tills.KINDS)


@pytest.mark.slow
def test_resumed_code_waits_for_a_tool_whose_source_has_failed_before(
    paying: PayingDaemon, tmp_path: Path
) -> None:
    outside = paying.outside
    tills.add(paying.running.url, "openapi", outside, tmp_path)
    paying.strike_after(3, responds=False)
    run = begin(paying.running, spec(code_step("openapi"), durability="normal"), "go")
    paying.gone()
    outside.documents.clear()
    requests = outside.calls["/openapi.json"]
    paying.spare()
    paying.restart()
    with outside.lock:
        assert outside.lock.wait_for(lambda: outside.calls["/openapi.json"] > requests, timeout=60)
    outside.documents["/openapi.json"] = tills.DOCUMENT
    assert paying.last_event(run).get("result", {}).get("value") == str(ORDERS)
    assert len(outside.effects) == ORDERS


@pytest.mark.slow
@pytest.mark.parametrize("accepts", [True, False])
def test_a_person_decides_whether_a_call_under_way_is_repeated(
    paying: PayingDaemon, tmp_path: Path, *, accepts: bool
) -> None:
    """The daemon is killed during the second call, and again during its repetition if a person has accepted it."""
    outside = paying.outside
    tills.add(paying.running.url, "mcp", outside, tmp_path, repeat="ask")
    paying.strike_after(2, responds=False)
    run = begin(paying.running, spec(code_step("mcp"), durability="normal"), "go")
    answered_ids: list[str] = []
    for number in range(2 if accepts else 1):
        paying.gone()
        paying.strike_after(1, responds=False)
        paying.restart()
        question_id = paying.next_question(run, answered_ids)
        questions = httpx.get(f"{paying.running.url}/api/questions?run={run}", timeout=60).json()["data"]
        pending = [item for item in questions if item["status"] == "pending"]
        assert [item["id"] for item in pending] == [question_id] and len(questions) == number + 1
        assert "This call of 'pay' was under way when the daemon stopped." in pending[0]["message"]
        assert pending[0]["arguments"] == {"order": "mcp 1"}
        assert outside.calls.total() == number + 2, "nothing was repeated before the answer"
        if number == 1 or not accepts:
            paying.spare()
        path = f"{paying.running.url}/api/questions/{question_id}/answer"
        httpx.post(path, json={"accepted": accepts, "note": "Paid by hand."}, timeout=60).raise_for_status()
        answered_ids.append(question_id)
    last = paying.last_event(run)
    if accepts:
        assert last.get("result", {}).get("value") == str(ORDERS), last
        assert sorted(outside.calls.values()) == [*[1] * (ORDERS - 1), 3]
    else:
        assert "was refused, so it was not run again" in last["error"]["message"]
        assert list(outside.calls.values()) == [1, 1]
