"""A hand-over between agents in LangGraph."""

import json

from langchain.agents import create_agent
from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command


def fare(people: int) -> str:
    """The fare to the island for so many people."""
    return f"fare: {9 * people} euros"


@tool
def transfer_to_tickets(runtime: ToolRuntime) -> Command:
    """Hand the conversation over to the agent who sells tickets."""
    said = ToolMessage("Handed over.", tool_call_id=runtime.tool_call_id)
    messages = [*runtime.state["messages"], said]
    return Command(goto="tickets", update={"messages": messages}, graph=Command.PARENT)


model = "openai:gpt-4o-mini"
desk = create_agent(
    model,
    [transfer_to_tickets],
    system_prompt="You are the front desk. Tickets are not your affair.",
    name="desk",
)
tickets = create_agent(model, [fare], system_prompt="You sell tickets.", name="tickets")
graph = StateGraph(MessagesState)
graph.add_node("desk", desk, destinations=("tickets",))
graph.add_node("tickets", tickets)
graph.add_edge(START, "desk")
wish = {"role": "user", "content": "Two tickets to the island, please."}
print(json.dumps(graph.compile().invoke({"messages": [wish]})["messages"][-1].content))
