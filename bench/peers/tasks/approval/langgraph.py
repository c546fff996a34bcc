"""A tool that a person approves, with LangChain."""

import json
import sys
from pathlib import Path

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command


def refund(customer: str, amount: float) -> str:
    """Pay money back to a customer."""
    with Path("effects.txt").open("a") as file:
        file.write(f"refund {customer}\n")
    return f"Refunded {amount:g} euros to {customer}"


with SqliteSaver.from_conn_string("clerk.db") as saver:
    clerk = create_agent(
        "openai:gpt-4o-mini",
        [refund],
        system_prompt="You answer complaints.",
        middleware=[
            HumanInTheLoopMiddleware(interrupt_on={"refund": {"allowed_decisions": ["approve", "reject"]}})
        ],
        checkpointer=saver,
    )
    config = {"configurable": {"thread_id": "1"}}
    if sys.argv[1:] == ["approve"]:
        waiting = clerk.get_state(config).interrupts
        answer = Command(resume={"decisions": [{"type": "approve"}]}) if waiting else None
        print(json.dumps(clerk.invoke(answer, config)["messages"][-1].content))
    else:
        wish = {"role": "user", "content": "Ada's mug for 12 euros is broken."}
        asked = clerk.invoke({"messages": [wish]}, config)["__interrupt__"][0]
        print(json.dumps({"asked": asked.value["action_requests"][0]["args"]}))
