"""Routing by intent with LangGraph."""

import json
from typing import Literal, TypedDict

from langchain.chat_models import init_chat_model
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

WISHES = ("I was charged twice on my invoice.", "The oven does not start.", "Good morning!")
INTENTS = {"billing": "invoices and payments", "repair": "machines that do not work", "chat": "anything else"}


class Route(BaseModel):
    intent: Literal["billing", "repair", "chat"] = Field(
        description="; ".join(map(": ".join, INTENTS.items()))
    )


class State(TypedDict):
    wish: str
    intent: str
    answer: str


llm = init_chat_model("openai:gpt-4o-mini")
router = llm.with_structured_output(Route)


def classify(state: State):
    messages = [
        {"role": "system", "content": "Say which intent this has."},
        {"role": "user", "content": state["wish"]},
    ]
    return {"intent": router.invoke(messages).intent}


def answer_for(name: str):
    def answer(state: State):
        system = {"role": "system", "content": f"You answer for {name}."}
        return {"answer": llm.invoke([system, {"role": "user", "content": state["wish"]}]).content}

    return answer


graph = StateGraph(State)
graph.add_node(classify)
graph.add_edge(START, "classify")
graph.add_conditional_edges("classify", lambda state: state["intent"], list(INTENTS))
for name in INTENTS:
    graph.add_node(name, answer_for(name))
    graph.add_edge(name, END)
desk = graph.compile()
print(json.dumps([desk.invoke({"wish": wish})["answer"] for wish in WISHES]))
