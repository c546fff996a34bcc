"""Whose run is next: no key holds up the others by many runs, or by runs that take long."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from portico_server.core.work_slots import LastTurns

MIN_SHARED_SLOTS_COUNT = 3
"""From so many runs at once on, beside one more, the operator's leave that one to keys."""

MAX_REMEMBERED_TURNS_COUNT = 100
"""Of so many keys it is known when a run was last taken from the queue for them."""


class RunTurns(LastTurns[tuple[str, str]]):
    """The last turns of kinds and keys. ``held``: how many runs of each are being done."""

    def full(
        self,
        kinds: Mapping[str, int],
        running_counts: Mapping[tuple[str, str], int],
        is_operator: Callable[[str], bool],
    ) -> list[tuple[str, str]]:
        """The kinds and keys of which half of all that may be done at once is being done: one key cannot hold up the
        others by work that takes long. The operator's may be all but one, if there are several.
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
        """The kinds and keys whose turn is after that of all others: first those that have the fewest runs, then those
        whose last turn is longest ago.
        """
        if len(self) > MAX_REMEMBERED_TURNS_COUNT:
            self.forget_others(running_counts)
        waiting_turns = [turn for turn in {*running_counts, *self} if turn[0] in kinds]
        return sorted(waiting_turns, key=lambda turn: (running_counts.get(turn, 0), self.last(turn)))
