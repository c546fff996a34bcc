"""A hand-over between agents in LlamaIndex."""

import asyncio
import json

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.llms.openai import OpenAI


def fare(people: int) -> str:
    """The fare to the island for so many people."""
    return f"fare: {9 * people} euros"


async def main():
    llm = OpenAI(model="gpt-4o-mini")
    desk = FunctionAgent(
        name="desk",
        description="The front desk.",
        system_prompt="You are the front desk. Tickets are not your affair.",
        llm=llm,
        can_handoff_to=["tickets"],
    )
    tickets = FunctionAgent(
        name="tickets", description="Sells tickets.", system_prompt="You sell tickets.", llm=llm, tools=[fare]
    )
    office = AgentWorkflow(agents=[desk, tickets], root_agent="desk")
    print(json.dumps(str(await office.run("Two tickets to the island, please."))))


asyncio.run(main())
