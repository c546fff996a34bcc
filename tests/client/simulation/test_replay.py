"""A trace replayed on simulated machines: exact times for small cases, and invariants for any trace."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from portico.errors import InvalidRequest
from portico.simulation import (
    ClusterPlan,
    MachineKind,
    ModelRates,
    SimulationResult,
    TracedCall,
    read_cluster,
    read_trace,
    simulate,
    summarize,
)

RATES = ModelRates(
    memory_gb=10, load_s=5, prefill=100, decode=((1, 10.0), (2, 16.0)), slots=2, step_tokens=10
)


def replay(
    trace: list[TracedCall], machines: int = 1, memory: float = 10, **models: ModelRates
) -> SimulationResult:
    plan = ClusterPlan((MachineKind("box", memory),), models or {"m": RATES})
    return simulate(trace, plan, [machines])


def times(result: SimulationResult) -> list[tuple[float, float, float]]:
    return [
        (pytest.approx(call.started), pytest.approx(call.first_token), pytest.approx(call.ended))
        for call in result.calls
    ]


def test_a_call_loads_its_model_reads_its_prompt_and_is_answered() -> None:
    result = replay([TracedCall(1, "m", 200, 11, cached_tokens=100)])
    assert times(result) == [(6, 7, 8)]
    assert (result.loads, result.evictions) == (1, 0)
    assert result.busy_s == pytest.approx(2)


def test_answers_share_the_measured_rate_and_a_prompt_slows_them_to_a_token_a_step() -> None:
    # The first answer gets 10 tokens a second. While the second prompt is read, it gets 10 a second in steps
    # of 0.1 s. Then both get 8.
    result = replay([TracedCall(0, "m", 100, 31), TracedCall(7, "m", 90, 9)])
    assert times(result) == [(5, 6, 8 + 1 + 2 / 10), (7, 8, 9)]


def test_prompts_are_processed_in_order_and_calls_wait_for_a_free_slot() -> None:
    result = replay([TracedCall(0, "m", 100, 1), TracedCall(0, "m", 100, 1), TracedCall(0, "m", 100, 1)])
    assert times(result) == [(5, 6, 6), (5, 7, 7), (6, 8, 8)]


def test_a_model_is_unloaded_after_keep_alive_and_reloaded_on_the_next_call() -> None:
    rates = ModelRates(memory_gb=10, load_s=5, prefill=100, decode=((1, 10.0),), keep_alive=20)
    trace = [TracedCall(0, "m", 100, 1), TracedCall(25, "m", 100, 1), TracedCall(50, "m", 100, 1)]
    result = replay(trace, m=rates)
    assert times(result) == [(5, 6, 6), (25, 26, 26), (55, 56, 56)]
    assert (result.loads, result.evictions) == (2, 0)


def test_an_idle_model_gives_way_the_least_recently_used_first() -> None:
    trace = [TracedCall(0, "a", 100, 1), TracedCall(10, "b", 100, 1), TracedCall(20, "c", 100, 1)]
    trace += [TracedCall(30, "b", 100, 1), TracedCall(40, "a", 100, 1)]
    result = replay(trace, memory=20, a=RATES, b=RATES, c=RATES)
    assert [call.started for call in result.calls] == [5, 15, 25, 30, 45]
    assert (result.loads, result.evictions) == (4, 2)


def test_a_busy_model_gives_way_after_twice_its_load_time_and_nobody_waits_for_ever() -> None:
    busy = [TracedCall(0.5 * number, "a", 100, 1) for number in range(200)]
    result = replay(sorted([*busy, TracedCall(6, "b", 100, 1)], key=lambda one: one.at), a=RATES, b=RATES)
    [other_call] = [one for one in result.calls if one.call.model == "b"]
    # The first model is loaded at 5 and may stay until 15; it finishes what it has begun, at most two
    # prompts.
    assert 20 <= other_call.started <= 22
    assert result.evictions >= 2


def test_calls_without_a_free_slot_run_on_a_second_machine() -> None:
    trace = [TracedCall(0, "m", 100, 1) for _ in range(4)]
    assert [call.ended for call in replay(trace, machines=2).calls] == [6, 7, 6, 7]
    alone = ModelRates(**{**{name: getattr(RATES, name) for name in RATES.__slots__}, "replicas": 1})
    assert replay(trace, machines=2, m=alone).loads == 1


def test_models_on_one_machine_share_its_time() -> None:
    trace = [TracedCall(0, "a", 100, 1), TracedCall(0, "b", 100, 1)]
    assert [call.ended for call in replay(trace, memory=20, a=RATES, b=RATES).calls] == [7, 7]


@pytest.mark.parametrize("seed", range(8))
def test_every_call_of_any_trace_ends_and_memory_is_never_exceeded(seed: int) -> None:
    chance = random.Random(seed)
    names = "abcd"
    models = {
        name: ModelRates(
            memory_gb=chance.choice([5, 10, 20]),
            load_s=chance.choice([0, 1, 30]),
            prefill=chance.uniform(50, 5_000),
            decode=((1, chance.uniform(5, 50)), (8, chance.uniform(50, 200))),
            slots=chance.randint(1, 8),
            step_tokens=chance.choice([1, 64, 2_048]),
            keep_alive=chance.choice([0, 3, 1_000]),
            replicas=chance.choice([0, 1]),
        )
        for name in names
    }
    trace = sorted(
        (
            TracedCall(
                chance.uniform(0, 300), chance.choice(names), chance.randint(0, 2_000), chance.randint(0, 200)
            )
            for _ in range(400)
        ),
        key=lambda call: call.at,
    )
    plan = ClusterPlan(
        (MachineKind("small", 20, cost_per_hour=1), MachineKind("large", 35, cost_per_hour=3)), models
    )
    for counts in ([1, 0], [2, 1], [0, 2]):
        finished_counts: list[int] = []
        result = simulate(trace, plan, counts, finished_counts.append)
        assert finished_counts == list(range(1, len(trace) + 1))
        for replayed_call in result.calls:
            assert (
                replayed_call.call.at
                <= replayed_call.started
                < replayed_call.first_token
                <= replayed_call.ended
            )
        summary = summarize(result, plan)
        assert 0 < summary.busy_share <= 1
        assert summary.cost == pytest.approx(summary.hours * (counts[0] + 3 * counts[1]))
        assert summary.total.p50 <= summary.total.p95 <= summary.total.p99
        assert result.loads >= result.evictions
        assert simulate(trace, plan, counts) == result, "nothing of chance"


CLUSTER: dict[str, Any] = {
    "machines": [{"name": "gpu", "memory_gb": 80, "counts": "1-3", "cost_per_hour": 2}],
    "models": {
        "m": {"memory_gb": 30, "load_s": 20, "prefill": 9000, "decode": {"1": 120, 8: 700}, "slots": 16}
    },
}


def test_valid_cluster_plans_and_traces_are_parsed() -> None:
    plan = read_cluster(CLUSTER)
    assert plan.models["m"].decode == ((1, 120.0), (8, 700.0))
    assert plan.combinations() == [(1,), (2,), (3,)]
    two = {**CLUSTER, "machines": [{"name": n, "memory_gb": 80, "counts": [0, 2]} for n in ("a", "b")]}
    assert read_cluster(two).combinations() == [(0, 2), (2, 0), (2, 2)]
    line = {"at": 2, "model": "m", "prompt_tokens": 5, "completion_tokens": 7}
    calls = read_trace([json.dumps(line), "", json.dumps({**line, "at": 1.5, "cached_tokens": 3})])
    assert [(call.at, call.cached_tokens) for call in calls] == [(1.5, 3), (2, 0)]


def changed(place: str, value: Any) -> dict[str, Any]:
    """Return `CLUSTER` with another value at a place, or without that place."""
    document: dict[str, Any] = json.loads(json.dumps(CLUSTER))
    at: Any = document
    *way, last = place.split(".")
    for name in way:
        at = at[int(name)] if name.isdigit() else at[name]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "must be an object, not list"),
        (changed("machines", []), "at least one kind"),
        (changed("models", {}), "must map model names"),
        (changed("models.m.prefil", 1), "has no 'prefil'. Did you mean 'prefill'?"),
        (changed("models.m.load_s", None), "models.m lacks 'load_s'"),
        (changed("models.m.slots", 0), "models.m.slots must be a whole number from 1"),
        (changed("models.m.slots", True), "models.m.slots must be a whole number"),
        (changed("models.m.prefill", float("inf")), "models.m.prefill must be a number from"),
        (changed("models.m.decode", {}), "at least one rate"),
        (changed("models.m.decode", {"many": 5}), "models.m.decode must be a whole number"),
        (changed("models.m.memory_gb", 100), "needs 100 GB, more than any machine has (80 GB)"),
        (changed("machines.0.counts", "0"), "must be a number, a list of numbers"),
        (changed("machines.0.counts", 0), "contain no machines"),
        (changed("machines.0.counts", "1-100"), "100 combinations, more than the maximum of 64"),
        (changed("machines.0.counts", "3-1"), "must be a number, a list of numbers"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_place(document: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_cluster(document, "machines.yaml")
    assert caught.value.message.startswith("machines.yaml")
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("3", "line 2 must be an object, not int"),
        ('{"at": 0, "model": "m", "prompt_tokens": 1}', "lacks 'completion_tokens'"),
        (
            '{"at": -1, "model": "m", "prompt_tokens": 1, "completion_tokens": 1}',
            "line 2.at must be a number from 0",
        ),
        (
            '{"at": NaN, "model": "m", "prompt_tokens": 1, "completion_tokens": 1}',
            "line 2.at must be a number from 0",
        ),
        ('{"at": 0, "model": "", "prompt_tokens": 1, "completion_tokens": 1}', "line 2.model must be text"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(line: str, words: str) -> None:
    good = '{"at": 0, "model": "m", "prompt_tokens": 1, "completion_tokens": 1}'
    with pytest.raises(InvalidRequest) as caught:
        read_trace([good, line])
    assert words in caught.value.message
    with pytest.raises(InvalidRequest, match="has no calls"):
        read_trace([" "])


def test_models_without_rates_and_machines_without_room_are_named() -> None:
    with pytest.raises(InvalidRequest, match=r"calls 'chta', which has no rates\. Did you mean 'chat'"):
        replay([TracedCall(0, "chta", 1, 1)], chat=RATES)
    plan = ClusterPlan((MachineKind("small", 5), MachineKind("large", 20)), {"m": RATES})
    with pytest.raises(InvalidRequest, match="more than any of these machines"):
        simulate([TracedCall(0, "m", 1, 1)], plan, [1, 0])
