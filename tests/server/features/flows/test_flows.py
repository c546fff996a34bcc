"""Durable runs: resumed, rerun from a step, forked, cancelled; recorded work is not repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.daemon import Daemon
from tests.server.features.flows.steps import Bench, code, pipeline, ref, spec

from portico import Client
from portico.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico.wire import Asked, Failed, Finished

ADD = "lambda x: x + 1"
Effect = Callable[..., dict[str, Any]]


def flaky(bench: Bench, fails: int, name: str = "ask", **more: Any) -> dict[str, Any]:
    url = f"{bench.outside.url}/flaky/{uuid4().hex}/{fails}"
    return {"op": "http", "name": name, "method": "GET", "url": url, **more}


def end(client: Client, run: str) -> Any:
    """Return the last event of a run."""
    return [item.event for item in client.runs.events(run)][-1]


def effects(bench: Bench, run: str) -> dict[str, str]:
    """Return the external effects of a run by the end of their key."""
    return {
        key.partition(":")[2]: body
        for key, body in bench.outside.effects.items()
        if key.startswith(f"{run}:")
    }


class TestResume:
    def test_a_resumed_run_continues_after_its_last_finished_step(self, bench: Bench, effect: Effect) -> None:
        step = pipeline(effect("one", "a"), flaky(bench, 1), effect("two", "b"))
        with pytest.raises(PorticoError, match="answered 503"):
            bench(step, durability="normal")
        run = bench.run_id
        bench.client.runs.resume(run)
        assert isinstance(end(bench.client, run), Finished)
        assert effects(bench, run) == {"p.one": "a", "p.two": "b"}
        assert bench.outside.calls[f"{run}:p.one"] == 1

    def test_a_resumed_run_keeps_the_recorded_replacement_of_a_failed_step(self, bench: Bench) -> None:
        step = pipeline(
            flaky(bench, 1, "soft", on_error={"value": "instead"}),
            flaky(bench, 1, "hard"),
            code("lambda a: a", args=[ref("steps.soft")]),
        )
        with pytest.raises(PorticoError, match=r"Step p\.hard"):
            bench(step, durability="normal")
        bench.client.runs.resume(bench.run_id)
        assert end(bench.client, bench.run_id).result == "instead"

    def test_a_resumed_run_repeats_its_recorded_jump(self, bench: Bench) -> None:
        step = pipeline(
            flaky(bench, 1, "soft", on_error={"goto": "hard"}),
            code("lambda x: 'no'", "no"),
            flaky(bench, 1, "hard"),
        )
        with pytest.raises(PorticoError, match=r"Step p\.hard"):
            bench(step, durability="normal")
        bench.client.runs.resume(bench.run_id)
        assert end(bench.client, bench.run_id).result["status"] == 200
        assert "p.no" not in bench.trace()

    def test_a_resumed_run_keeps_collected_errors_without_rerunning_their_items(self, bench: Bench) -> None:
        warp = {"op": "warp", "name": "w", "step": flaky(bench, 1), "collect": True, "concurrency": 1}
        step = pipeline(warp, flaky(bench, 1, "hard"), output=ref("steps.w"))
        with pytest.raises(PorticoError, match=r"Step p\.hard"):
            bench(step, [1], durability="normal")
        bench.client.runs.resume(bench.run_id)
        assert end(bench.client, bench.run_id).result[0]["error"]["code"] == "http_error"

    def test_a_resumed_run_restores_the_state_of_a_loop(self, bench: Bench) -> None:
        body = pipeline(
            code("lambda s: s + 1", "up", args=[ref("state.n")], save="n"), flaky(bench, 1), name="b"
        )
        loop = {"op": "loop", "name": "l", "limit": 2, "state": {"n": 0}, "step": body}
        step = pipeline(
            {**loop, "step": pipeline(body, code("lambda n: n", args=[ref("state.n")]), name="c")}
        )
        with pytest.raises(PorticoError, match="answered 503"):
            bench(step, durability="normal")
        bench.client.runs.resume(bench.run_id)
        assert end(bench.client, bench.run_id).result == 2

    def test_a_run_that_has_not_ended_cannot_be_resumed(self, bench: Bench) -> None:
        step = {"op": "approve", "name": "ok", "message": "Go?"}
        running = bench.client.start(spec(step, durability="normal"))
        question = next(event for event in running.events() if isinstance(event, Asked))
        running.close()
        with pytest.raises(Conflict, match="has not ended"):
            bench.client.runs.resume(running.id or "")
        bench.client.questions.answer(question.id, True)
        assert isinstance(end(bench.client, running.id or ""), Finished)

    def test_a_run_in_memory_has_nothing_to_resume(self, bench: Bench) -> None:
        bench(code(ADD), 1)
        with pytest.raises(NotFound, match="Flows are durable if they set"):
            bench.client.runs.resume(bench.run_id)


class TestFromAStep:
    def test_a_rerun_from_a_step_repeats_later_steps_with_new_keys(
        self, bench: Bench, effect: Effect
    ) -> None:
        step = pipeline(effect("one", "a"), effect("two", "b"), effect("three", "c"))
        bench(step, durability="normal")
        run = bench.run_id
        bench.client.runs.resume(run, start="two")
        assert isinstance(end(bench.client, run), Finished)
        assert sorted(effects(bench, run)) == ["1:p.three", "1:p.two", "p.one", "p.three", "p.two"]

    def test_a_rerun_from_an_approval_asks_again(self, bench: Bench) -> None:
        step = pipeline({"op": "approve", "name": "ok", "message": "Go?"}, code("lambda x: x"))
        running = bench.client.start(spec(step, durability="normal"))
        for event in running.events():
            if isinstance(event, Asked):
                bench.client.questions.answer(event.id, True)
        run = running.id or ""
        bench.client.runs.resume(run, start="ok")
        question_ids_before = {
            question.id for question in bench.client.questions.list(run=run, status="answered")
        }
        for item in bench.client.runs.events(run):
            if isinstance(item.event, Asked) and item.event.id not in question_ids_before:
                bench.client.questions.answer(item.event.id, True)
        assert isinstance(end(bench.client, run), Finished)

    def test_a_rerun_from_a_combinator_repeats_its_inner_steps(self, bench: Bench, effect: Effect) -> None:
        step = pipeline(effect("one", "a"), pipeline(effect("two", "b"), name="inner"), effect("three", "c"))
        bench(step, durability="normal")
        run = bench.run_id
        bench.client.runs.resume(run, start="inner")
        end(bench.client, run)
        assert sorted(effects(bench, run)) == [
            "1:p.inner.two",
            "1:p.three",
            "p.inner.two",
            "p.one",
            "p.three",
        ]

    def test_a_rerun_from_a_missing_step_is_refused(self, bench: Bench) -> None:
        bench(pipeline(code(ADD, "a")), 1, durability="normal")
        with pytest.raises(NotFound, match=r"has no step 'p\.b'") as caught:
            bench.client.runs.resume(bench.run_id, start="p.b")
        assert caught.value.code == "step_not_found"


class TestFork:
    def test_a_fork_with_another_input_runs_all_steps(self, bench: Bench, effect: Effect) -> None:
        bench(pipeline(effect("one", ref("input"))), "a", durability="normal")
        fork = bench.client.runs.fork(bench.run_id, input="b")
        assert isinstance(end(bench.client, fork.id), Finished)
        assert effects(bench, fork.id) == {"p.one": "b"}

    def test_a_fork_from_a_step_reuses_the_steps_before_it(self, bench: Bench, effect: Effect) -> None:
        bench(pipeline(effect("one", "a"), effect("two", "b")), durability="normal")
        fork = bench.client.runs.fork(bench.run_id, start="two")
        assert isinstance(end(bench.client, fork.id), Finished)
        assert effects(bench, fork.id) == {"p.two": "b"}
        assert [step.path for step in bench.client.runs.trace(fork.id)] == ["p.one", "p.two", "p"]

    def test_a_fork_with_an_invalid_input_is_refused(self, bench: Bench) -> None:
        bench(code(ADD), 1, durability="normal", input_schema={"type": "integer"})
        with pytest.raises(InvalidRequest, match="The input does not match its schema"):
            bench.client.runs.fork(bench.run_id, input="x")


class TestCancel:
    def test_cancelling_a_run_cancels_its_current_request(self, bench: Bench) -> None:
        hold = {"op": "http", "name": "hold", "method": "GET", "url": f"{bench.outside.url}/hold"}
        running = bench.client.start(spec(hold, durability="normal"))
        next(iter(running.events()))
        running.close()
        assert bench.outside.held.acquire(timeout=60)
        bench.client.runs.cancel(running.id or "")
        assert bench.outside.left.acquire(timeout=60)
        assert bench.client.runs.get(running.id or "").status == "cancelled"
        assert isinstance(end(bench.client, running.id or ""), Failed)

    def test_a_durable_run_continues_when_its_listener_disconnects(self, bench: Bench) -> None:
        step = pipeline({"op": "approve", "name": "ok", "message": "Go?"}, code("lambda x: 'done'"))
        running = bench.client.start(spec(step, durability="normal"))
        question = next(event for event in running.events() if isinstance(event, Asked))
        running.close()
        assert bench.client.runs.get(running.id or "").status == "waiting"
        bench.client.questions.answer(question.id, True)
        assert end(bench.client, running.id or "").result == "done"


class TestChat:
    def test_a_chat_with_a_durable_app_continues_when_the_client_disconnects(
        self, bench: Bench, flow_daemon: Daemon, effect: Effect
    ) -> None:
        step = pipeline(
            {"op": "emit", "name": "hm", "text": "One moment. "},
            effect("send", ref("input")),
            {"op": "approve", "name": "ok", "message": "Go?"},
            code("lambda x: {'sent': x['text']}"),
        )
        bench.client.apps.deploy("talker", spec(step, durability="normal"))
        body = {"model": "talker", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        url = f"{flow_daemon.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            run = answer.headers["x-portico-run"]
        events = (item.event for item in bench.client.runs.events(run))
        question = next(event for event in events if isinstance(event, Asked))
        bench.client.questions.answer(question.id, True)
        assert end(bench.client, run).result == {"sent": '{"done": "hi"}'}
        assert effects(bench, run) == {"p.send": "hi"}
        record = bench.client.runs.get(run)
        assert (record.kind, record.name, record.status) == ("flow", "talker", "completed")
        assert [step.path for step in bench.client.runs.trace(run)][-1] == "p"

    def test_a_chat_gives_the_same_answer_and_usage_at_every_durability(
        self, bench: Bench, flow_daemon: Daemon
    ) -> None:
        answers = {}
        for durability in ("off", "normal", "full"):
            step = {"op": "llm", "name": "m", "model": "clerk"}
            bench.client.apps.deploy("parrot", spec(step, durability=durability))
            body = {"model": "parrot", "messages": [{"role": "user", "content": "one two"}]}
            answer = httpx.post(f"{flow_daemon.url}/v1/chat/completions", json=body, timeout=60).json()
            answers[durability] = answer["choices"][0]["message"]["content"], answer["usage"]
        assert answers["off"][0] == "one two" and answers["off"] == answers["normal"] == answers["full"]


class TestEvents:
    def test_events_can_be_read_from_any_sequence_number(self, bench: Bench) -> None:
        bench(pipeline(*(code(ADD, f"s{n}") for n in range(5))), 1, durability="normal")
        all_events = [(item.seq, item.event) for item in bench.client.runs.events(bench.run_id)]
        assert [seq for seq, _event in all_events] == list(range(1, len(all_events) + 1))
        for position in (1, 5, len(all_events) - 1):
            later_events = [
                (item.seq, item.event) for item in bench.client.runs.events(bench.run_id, after=position)
            ]
            assert later_events == all_events[position:]


@pytest.mark.parametrize("durability", ["normal", "full"])
def test_runs_with_full_and_normal_durability_have_the_same_result_and_trace(
    bench: Bench, durability: str, effect: Effect
) -> None:
    step = pipeline(
        code(ADD, "a"), effect("e", "x"), {"op": "llm", "name": "m", "model": "clerk", "user": "hi"}
    )
    assert bench(step, 1, durability=durability) == "hi"
    assert [(path, row.status) for path, row in bench.trace().items()] == [
        (path, "completed") for path in ("p.a", "p.e", "p.m", "p")
    ]


def test_effects_of_flows_called_by_different_steps_have_different_keys(bench: Bench, effect: Effect) -> None:
    inner = {"portico_flow": 1, "step": pipeline(effect("send", ref("input")), code("lambda a: a['text']"))}
    bench.client.apps.deploy("sender", inner)
    step = pipeline(
        *({"op": "agent", "name": f"a{n}", "agent": "sender", "message": f"mail {n}"} for n in range(2))
    )
    bench(step, durability="normal")
    assert sorted(effects(bench, bench.run_id).values()) == ["mail 0", "mail 1"]
