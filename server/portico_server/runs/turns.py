"""Decides which run is next, so that no key delays the others with many runs or long runs."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from portico_server.core.work_slots import LastTurns

MIN_SHARED_SLOTS_COUNT = 3
"""If a kind allows more concurrent runs than this, the operator's runs leave one of them to keys."""

MAX_REMEMBERED_TURNS_COUNT = 100
"""Number of remembered last turns above which those without active runs are forgotten."""


class RunTurns(LastTurns[tuple[str, str]]):
    """Remembers when each (kind, key) last had a turn in the queue."""

    def full(
        self,
        kinds: Mapping[str, int],
        running_counts: Mapping[tuple[str, str], int],
        is_operator: Callable[[str], bool],
    ) -> list[tuple[str, str]]:
        """Return the (kind, key) pairs that use at least half of the kind's concurrent runs.

        They start no further runs, so that long work of one key cannot delay the others. The operator's runs can use
        all concurrent runs, or all but one if the kind allows more than `MIN_SHARED_SLOTS_COUNT`.
        """
        full_turns = []
        for (kind, owner), count in running_counts.items():
            limit = kinds.get(kind, 0)
            if limit < 2 or count < limit // 2:
                continue
            if count >= limit - 1 >= MIN_SHARED_SLOTS_COUNT or not is_operator(owner):
                full_turns.append((kind, owner))
        return full_turns

    def later(
        self, kinds: Container[str], running_counts: Mapping[tuple[str, str], int]
    ) -> list[tuple[str, str]]:
        """Return the (kind, key) pairs that come after all others: those with the fewest runs first, then those whose
        last turn was longest ago.
        """
        if len(self) > MAX_REMEMBERED_TURNS_COUNT:
            self.forget_others(running_counts)
        waiting_turns = [turn for turn in {*running_counts, *self} if turn[0] in kinds]
        return sorted(waiting_turns, key=lambda turn: (running_counts.get(turn, 0), self.last(turn)))
