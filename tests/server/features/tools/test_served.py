"""Workers that go silent, come back, or share functions: which functions are tools, and for how long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.registry_fixture import RegistryFixture, open_registry

from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, TooMany
from portico_server.core.principal import LOCAL, Principal
from portico_server.features.tools.entry import Approval, rule_of
from portico_server.features.tools.served import (
    FUNCTION_LIFETIME_S,
    MAX_FUNCTIONS_PER_KEY,
    MAX_WORKERS_PER_KEY,
    RECONNECT_TIMEOUT_S,
    SILENCE_TIMEOUT_S,
    ServedFunctionSpec,
    ServedTools,
)
from portico_server.features.tools.toolbox import Toolbox

ANNA = Principal("anna", frozenset({"tools:*:call"}))
BERT = Principal("bert", frozenset({"tools:*:call"}))
ADD = ServedFunctionSpec("add", "Add.", {"type": "object"}, destructive=True)
SUB = ServedFunctionSpec("sub", "Subtract.", {"type": "object"})
MUL = ServedFunctionSpec("mul", "Multiply.", {"type": "object"})


class Hands:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Case:
    def __init__(self, daemon: RegistryFixture) -> None:
        self.registry = daemon.registry
        self.clock = Hands()
        self.served = ServedTools(Toolbox(daemon.registry, approval=Approval("destructive")), self.clock)

    def later(self, seconds: float) -> None:
        self.clock.now += seconds
        self.served.sweep()

    def has(self, name: str) -> bool:
        return self.registry.get(f"tool/{name}") is not None


@pytest.fixture
async def case(tmp_path: Path) -> AsyncIterator[Case]:
    async with open_registry(tmp_path) as daemon:
        yield Case(daemon)


def test_a_silent_worker_is_removed_and_its_functions_after_a_longer_time(case: Case) -> None:
    case.served.join(LOCAL, "w", [ADD])
    case.later(SILENCE_TIMEOUT_S - 1)
    assert case.served.note_worker(LOCAL, "w") == ["tool/add"]
    case.later(SILENCE_TIMEOUT_S + 1)
    with pytest.raises(NotFound, match="Join again"):
        case.served.note_worker(LOCAL, "w")
    assert case.has("add")  # a call still waits for a worker that may come back
    case.later(FUNCTION_LIFETIME_S + 1)
    assert not case.has("add")


def test_a_worker_that_rejoins_in_time_keeps_its_functions(case: Case) -> None:
    case.served.join(LOCAL, "w", [ADD])
    case.later(SILENCE_TIMEOUT_S + 1)
    case.served.join(LOCAL, "w", [ADD])
    case.later(FUNCTION_LIFETIME_S + 1 - SILENCE_TIMEOUT_S)
    assert case.has("add") and case.served.note_worker(LOCAL, "w")


def test_a_broken_connection_shortens_the_wait(case: Case) -> None:
    case.served.join(LOCAL, "w", [ADD])
    case.served.broke_off(LOCAL, "w")
    case.later(RECONNECT_TIMEOUT_S - 1)
    assert [worker.name for worker in case.served.every(LOCAL)] == ["w"]
    case.later(2)
    assert case.served.every(LOCAL) == []


def test_a_function_stays_while_anybody_serves_it(case: Case) -> None:
    case.served.join(LOCAL, "one", [ADD, SUB])
    case.served.join(LOCAL, "two", [ADD])
    case.served.leave(LOCAL, "one")
    assert case.has("add") and not case.has("sub")
    case.served.leave(LOCAL, "two")
    case.served.leave(LOCAL, "two")
    assert not case.has("add")


def test_rejoining_with_other_functions_replaces_the_functions_of_a_worker(case: Case) -> None:
    case.served.join(LOCAL, "w", [ADD])
    assert case.served.join(LOCAL, "w", [SUB]) == ["sub"]
    assert case.has("sub") and not case.has("add")


def test_a_refused_worker_changes_nothing(case: Case) -> None:
    case.served.join(ANNA, "w", [ADD])
    case.served.join(LOCAL, "w", [MUL])
    for caller in (BERT, Principal("another", frozenset({"admin"}))):
        with pytest.raises(Conflict, match="Choose another name") as error_info:
            case.served.join(caller, "w", [SUB, MUL])
        assert error_info.value.code == "name_taken"
    with pytest.raises(InvalidRequest) as odd:
        case.served.join(LOCAL, "w\x1b[2J", [ADD])
    assert odd.value.param == "worker"
    with pytest.raises(InvalidRequest, match="the same name"):
        case.served.join(ANNA, "w", [SUB, SUB])
    with pytest.raises(InvalidRequest) as wrong:
        case.served.join(ANNA, "w", [SUB, ServedFunctionSpec("odd", "", {"type": "thing"})])
    assert wrong.value.param == "functions[1].input_schema"
    with pytest.raises(Forbidden, match="tools:sub:call"):
        case.served.join(Principal("carl", frozenset({"chat"})), "w", [SUB])
    assert case.has("mul") and not case.has("sub")
    assert case.served.claimable_questions(ANNA) == {"tool/anna/add"}
    assert case.served.claimable_questions(BERT) == frozenset()
    assert case.served.claimable_questions(LOCAL) == {"tool/mul"}


async def test_each_key_has_its_own_function_of_a_name(case: Case) -> None:
    case.served.join(ANNA, "w", [ADD])
    case.served.join(BERT, "w", [ADD])
    case.served.join(LOCAL, "w", [ADD])
    for caller, owner in ((ANNA, "anna"), (BERT, "bert"), (LOCAL, None)):
        assert (await case.registry.resolve("tool/add", caller)).card.owner == owner
    assert case.served.claimable_questions(ANNA) == {"tool/anna/add"}
    assert case.served.claimable_questions(LOCAL) == {"tool/add"}
    case.served.leave(ANNA, "w")
    assert (await case.registry.resolve("tool/add", ANNA)).card.owner is None
    with pytest.raises(Conflict):
        case.served.join(ANNA, "w", [ADD])


async def test_functions_that_a_key_serves_are_visible_to_that_key_alone(case: Case) -> None:
    case.served.join(ANNA, "w", [ADD])
    assert (await case.registry.resolve("tool/add", ANNA)).card.owner == "anna"
    with pytest.raises(NotFound):
        await case.registry.resolve("tool/add", BERT)
    case.served.join(LOCAL, "w", [SUB])
    assert (await case.registry.resolve("tool/sub", BERT)).card.owner is None


def test_served_functions_follow_the_daemons_approval_rules(case: Case) -> None:
    case.served.join(LOCAL, "w", [ADD, SUB])
    needs = {}
    for name in ("add", "sub"):
        tool = case.registry.get(f"tool/{name}")
        assert tool is not None
        needs[name] = tool.card.labels["needs_approval"]
    assert needs == {"add": True, "sub": False}


def test_an_unknown_approval_rule_is_refused_with_its_place() -> None:
    assert rule_of(None, "tools[0]") == ""
    assert rule_of("always", "tools[0]") == "always"
    with pytest.raises(InvalidRequest, match=r"tools\[0\].approval is 'often'"):
        rule_of("often", "tools[0]")


def test_functions_and_workers_of_a_key_are_limited_in_number(case: Case) -> None:
    functions = [replace(ADD, name=f"f{number}") for number in range(MAX_FUNCTIONS_PER_KEY)]
    case.served.join(ANNA, "w", functions[1:])
    case.served.join(ANNA, "w", functions)  # the worker comes back with other functions
    with pytest.raises(TooMany, match="1,000 functions"):
        case.served.join(ANNA, "w2", [SUB])
    case.served.join(ANNA, "w2", functions[:1])
    case.served.join(BERT, "w2", [SUB])
    case.served.leave(ANNA, "w")
    for number in range(MAX_WORKERS_PER_KEY - 1):
        case.served.join(ANNA, f"x{number}", [SUB])
    with pytest.raises(TooMany, match="256 workers"):
        case.served.join(ANNA, "one more", [SUB])
