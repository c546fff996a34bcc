"""Cost of guards: microseconds for 1,000 characters, by group of detectors, whole and in pieces of a stream.

python bench/guards.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from portico_server.core.detectors import find
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.detectors import GROUPS
from portico_server.features.guards.guard import parse_guard
from portico_server.features.guards.held_text import HeldTexts

ENGLISH = "The quick brown fox, in 2024, met 3 others at 10:30; see https://a.example/c for more. "
CHINESE = "敏捷的棕色狐狸在2024年遇到了另外3只，时间是10:30；详见 https://a.example/c 。"
ROUNDS = 200
TOKEN_CHARS = 4


def main() -> None:
    """Print a line for each group and language."""
    for language, sentence in (("English", ENGLISH), ("Chinese", CHINESE)):
        text = (sentence * 40)[:1_000]
        for name, detectors in GROUPS.items():
            whole = _microseconds(partial(find, text, detectors))
            streamed = _microseconds(partial(_stream, text, name))
            print(
                f"{language:8} {name:10} whole {whole:6.0f} µs   streamed {streamed:7.0f} µs   for 1,000 characters"
            )


def _stream(text: str, group: str) -> None:
    guard = parse_guard({"name": "g", "on": "*", "detect": group, "action": "mask"}, "guards[0]")
    texts = HeldTexts(Guards((guard,)), "output")
    for at in range(0, len(text), TOKEN_CHARS):
        texts.feed(text[at : at + TOKEN_CHARS])
    texts.end()


def _microseconds(work: Callable[[], object]) -> float:
    work()
    begun = time.process_time()
    for _ in range(ROUNDS):
        work()
    return (time.process_time() - begun) / ROUNDS * 1e6


if __name__ == "__main__":
    main()
