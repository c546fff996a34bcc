"""How many steps the flows of one key run at once, and who gets a slot between them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from portico_server.features.flows import budget as budgets
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.concurrent import run_each

AT_ONCE = 8


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> ValueBudget:
    monkeypatch.setattr(budgets, "MAX_STEPS_AT_ONCE", AT_ONCE)
    return ValueBudget()


class Tree:
    """Steps within steps: each of ``levels`` runs five of the next at once, in its own run for ``key``."""

    def __init__(self, budget: ValueBudget, key: str) -> None:
        self._budget = budget
        self._key = key
        self.at_work = 0
        self.most = 0

    async def grow(self, levels: int) -> int:
        """Run the tree and return the number of leaves."""
        if not levels:
            self.at_work += 1
            self.most = max(self.most, self.at_work)
            await asyncio.sleep(0)
            self.at_work -= 1
            return 1
        counts = await run_each(self._budget.fresh(self._key), 5, 0, lambda _number: self.grow(levels - 1))
        return int(sum(counts))


async def test_nested_flows_share_the_concurrency_limit_of_their_key(budget: ValueBudget) -> None:
    tree, other_tree = Tree(budget, "key_a"), Tree(budget, "key_b")
    async with asyncio.TaskGroup() as tasks:
        leaves = tasks.create_task(tree.grow(4))
        other_leaves = tasks.create_task(other_tree.grow(1))
    assert (leaves.result(), other_leaves.result()) == (5**4, 5)
    assert 5 <= tree.most <= AT_ONCE + 1
    assert other_tree.most == 5  # each key has its own slots
    with budget.fresh("key_a").workers(100) as workers:
        assert workers == AT_ONCE + 1  # all slots have been returned
    with budget.fresh("key_a").workers(100, depth=1) as workers:
        assert workers == AT_ONCE // 4 + 1  # with an enclosing flow they count fourfold


async def test_starting_many_steps_does_not_block_the_event_loop(budget: ValueBudget) -> None:
    passed, rounds = 0, [0]
    run_budget = budget.fresh("key_a")

    async def step() -> None:
        nonlocal passed
        await run_budget.give_way()
        passed += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(500):
            tasks.create_task(step())
        while passed < 500:
            await asyncio.sleep(0)
            rounds.append(passed)
    per_round = [next_count - previous_count for previous_count, next_count in pairwise(rounds)]
    assert max(per_round) <= budgets._BYTES_PER_TURN // budgets._STEP_BYTES


class FirstFails:
    """Steps of which the first fails and the others wait until they are cancelled."""

    def __init__(self) -> None:
        self.ended = 0
        self.some_ended = asyncio.Event()

    async def step(self, number: int) -> None:
        if number == 0:
            raise ValueError("the first fails")
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1
            self.some_ended.set()


async def test_cancelling_many_steps_does_not_block_the_event_loop() -> None:
    steps, rounds = FirstFails(), [0]
    work = asyncio.create_task(run_each(ValueBudget(), 500, 0, steps.step))
    while not work.done():
        await asyncio.sleep(0)
        rounds.append(steps.ended)
    with pytest.raises(ValueError, match="the first fails"):
        await work
    assert rounds[-1] == 499
    assert max(next_count - previous_count for previous_count, next_count in pairwise(rounds)) < 10


async def test_a_run_cancelled_during_the_cancellation_of_its_steps_leaves_none_running() -> None:
    steps = FirstFails()
    work = asyncio.create_task(run_each(ValueBudget(), 500, 0, steps.step))
    await steps.some_ended.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert steps.ended == 499
