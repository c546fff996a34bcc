"""The measurements of ``flow.py`` with another framework, in its own environment: ``python flow_peer.py langgraph``.

Prints one JSON object. Each framework is used as documented, with functions that do nothing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

STEPS = 100
ROUNDS = 3
NAP = 0.1

CHAIN = "chain in memory, µs a step"
JOURNAL = "chain in the journal, µs a step"
WARP = "warp of 1,000 functions, ms"
NAPS = "10 sleeps of 0.1 s at once, s"


def best(work: Callable[[], Any]) -> float:
    """Return the time of the fastest of a few rounds, in seconds."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def langgraph() -> dict[str, float]:
    import sqlite3
    from typing import TypedDict

    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        x: int

    def build(saver: Any = None) -> Any:
        graph = StateGraph(State)
        for number in range(STEPS):
            graph.add_node(f"s{number}", lambda state: {"x": state["x"] + 1})
        graph.add_edge(START, "s0")
        for number in range(STEPS - 1):
            graph.add_edge(f"s{number}", f"s{number + 1}")
        graph.add_edge(f"s{STEPS - 1}", END)
        return graph.compile(checkpointer=saver)

    config: dict[str, Any] = {"recursion_limit": STEPS + 10}
    memory = build()
    found = {CHAIN: best(lambda: memory.invoke({"x": 0}, config)) / STEPS * 1e6}
    try:
        from langgraph.checkpoint.sqlite import SqliteSaver
    except ImportError:
        return found
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        saver = SqliteSaver(sqlite3.connect(file.name, check_same_thread=False))
        kept = build(saver)
        threads = iter(range(100))

        def run() -> None:
            kept.invoke({"x": 0}, {**config, "configurable": {"thread_id": str(next(threads))}})

        found[JOURNAL] = best(run) / STEPS * 1e6
    return found


def haystack() -> dict[str, float]:
    from haystack import Pipeline, component

    @component
    class Up:
        @component.output_types(x=int)
        def run(self, x: int) -> dict[str, int]:
            return {"x": x + 1}

    pipeline = Pipeline()
    for number in range(STEPS):
        pipeline.add_component(f"s{number}", Up())
    for number in range(STEPS - 1):
        pipeline.connect(f"s{number}.x", f"s{number + 1}.x")
    return {CHAIN: best(lambda: pipeline.run({"s0": {"x": 0}})) / STEPS * 1e6}


def lazyllm() -> dict[str, float]:
    import lazyllm as lazy

    chain = lazy.pipeline(*[lambda x: x + 1 for _ in range(STEPS)])
    over = lazy.warp(lambda x: x + 1)
    naps = lazy.parallel(*[lambda x: time.sleep(NAP) for _ in range(10)])
    return {
        CHAIN: best(lambda: chain(0)) / STEPS * 1e6,
        WARP: best(lambda: over(*range(1_000))) * 1e3,
        NAPS: best(lambda: naps(0)),
    }


if __name__ == "__main__":
    print(json.dumps({"langgraph": langgraph, "haystack": haystack, "lazyllm": lazyllm}[sys.argv[1]]()))
