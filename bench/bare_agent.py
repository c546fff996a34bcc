"""Turns of an agent in LangGraph or Lagent with a model that answers at once, for `agent.py`.

Run it with an interpreter that has the framework; it prints the milliseconds of each turn by case, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[[int, int], Any]


def turns(say: Say, sessions: int, count: int) -> list[float]:
    """Return the milliseconds of each turn."""
    taken = []
    for session in range(sessions):
        for turn in range(count):
            begun = time.perf_counter()
            say(session, turn)
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken


def langgraph(sessions: int, count: int, long: int) -> dict[str, list[float]]:
    """Measure a graph of one node, in memory and with the SQLite saver."""
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import START, MessagesState, StateGraph

    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [AIMessage(f"after {len(state['messages'])}")]})
    graph.add_edge(START, "model")

    def sayer(compiled: Any) -> Say:
        def say(session: int, turn: int) -> None:
            at = {"configurable": {"thread_id": str(session)}}
            compiled.invoke({"messages": [HumanMessage(f"{session}.{turn}")]}, at)

        return say

    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteSaver.from_conn_string(str(Path(folder) / "graph.db")) as saver,
    ):
        stored = graph.compile(checkpointer=saver)
        at: Any = {"configurable": {"thread_id": "long"}}
        stored.update_state(at, {"messages": [HumanMessage(f"Message {n}. " * 10) for n in range(long)]})
        load = turns(lambda _session, _turn: stored.get_state(at).values["messages"], 1, 15)
        return {
            "memory": turns(sayer(graph.compile(checkpointer=InMemorySaver())), sessions, count),
            "stored": turns(sayer(stored), sessions, count),
            "load": load,
        }


def lagent(sessions: int, count: int, _long: int) -> dict[str, list[float]]:
    """Measure an agent with its default memory, the only one it has."""
    from lagent.agents import Agent
    from lagent.schema import AgentMessage

    class Instant:
        def chat(self, messages: list[dict[str, Any]], **_more: Any) -> str:
            return f"after {len(messages)}"

    agent = Agent(Instant(), "Be brief.")

    def say(session: int, turn: int) -> None:
        agent(AgentMessage(sender="user", content=f"{session}.{turn}"), session_id=session)

    return {"memory": turns(say, sessions, count)}


if __name__ == "__main__":
    run = {"langgraph": langgraph, "lagent": lagent}[sys.argv[1]]
    print(json.dumps(run(*map(int, sys.argv[2:5]))))
