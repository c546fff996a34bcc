"""Map and reduce with LangGraph."""

import json
import operator
from pathlib import Path
from typing import Annotated, TypedDict

from langchain.chat_models import init_chat_model
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

llm = init_chat_model("openai:gpt-4o-mini")


class State(TypedDict):
    texts: list[str]
    notes: Annotated[list[str], operator.add]
    summary: str


def spread(state: State):
    return [Send("note", {"text": text}) for text in state["texts"]]


def note(state: dict):
    answer = llm.invoke(f"Sum this report up in one sentence.\n\n{state['text']}")
    return {"notes": [answer.content]}


def whole(state: State):
    answer = llm.invoke("Make one summary of these notes.\n\n" + "\n".join(state["notes"]))
    return {"summary": answer.content}


graph = StateGraph(State)
graph.add_node(note)
graph.add_node(whole)
graph.add_conditional_edges(START, spread, ["note"])
graph.add_edge("note", "whole")
graph.add_edge("whole", END)
with SqliteSaver.from_conn_string("graph.db") as saver:
    summary = graph.compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "1"}, "max_concurrency": 8}
    begun = summary.get_state(config).next
    texts = [path.read_text() for path in sorted(Path("reports").glob("*.txt"))]
    result = summary.invoke(None if begun else {"texts": texts}, config, durability="sync")
print(json.dumps(result["summary"]))
