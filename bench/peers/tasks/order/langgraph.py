"""A durable order with LangGraph."""

import json
from pathlib import Path
from typing import TypedDict

from langchain.chat_models import init_chat_model
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

llm = init_chat_model("openai:gpt-4o-mini")


class State(TypedDict):
    order: str
    read: str
    confirmed: str
    letter: str


def ask(system: str, text: str) -> str:
    return llm.invoke([{"role": "system", "content": system}, {"role": "user", "content": text}]).content


def note(line: str) -> None:
    with Path("effects.txt").open("a") as file:
        file.write(line + "\n")


def read(state: State):
    return {"read": ask("Read the order.", state["order"])}


def charge(state: State):
    note(f"charged {state['order']}")


def confirm(state: State):
    return {"confirmed": ask("Confirm the order.", state["read"])}


def ship(state: State):
    note(f"shipped {state['order']}")


def letter(state: State):
    return {"letter": ask("Write the letter.", state["confirmed"])}


graph = StateGraph(State).add_sequence(
    [("read_order", read), ("charge", charge), ("confirm", confirm), ("ship", ship), ("write_letter", letter)]
)
graph.add_edge(START, "read_order")
with SqliteSaver.from_conn_string("order.db") as saver:
    order = graph.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}}
    begun = order.get_state(config).next
    result = order.invoke(
        None if begun else {"order": "12 rye breads for the school"}, config, durability="sync"
    )
print(json.dumps(result["letter"]))
