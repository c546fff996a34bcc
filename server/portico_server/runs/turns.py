"""Decides whose run is next: no key delays the others with many runs, or with long runs."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from portico_server.core.work_slots import LastTurns

MIN_SHARED_SLOTS_COUNT = 3
"""Number of concurrent runs, besides one more, from which the operator's runs leave that one to keys."""

MAX_REMEMBERED_TURNS_COUNT = 100
"""Maximum number of keys whose last turn in the queue is remembered."""


class RunTurns(LastTurns[tuple[str, str]]):
    """The last turns of kinds and keys. ``held``: the number of active runs of each."""

    def full(
        self,
        kinds: Mapping[str, int],
        running_counts: Mapping[tuple[str, str], int],
        is_operator: Callable[[str], bool],
    ) -> list[tuple[str, str]]:
        """Return the kinds and keys that use half of the concurrent runs, so that long work of a key cannot delay the
        others.

        The operator's runs can use all but one, if there are several.
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
        """Return the kinds and keys whose turn is after all others: first by the fewest runs, then by the oldest last
        turn.
        """
        if len(self) > MAX_REMEMBERED_TURNS_COUNT:
            self.forget_others(running_counts)
        waiting_turns = [turn for turn in {*running_counts, *self} if turn[0] in kinds]
        return sorted(waiting_turns, key=lambda turn: (running_counts.get(turn, 0), self.last(turn)))
