"""An agent with two tools in LlamaIndex."""

import asyncio
import json

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai import OpenAI


def stock(item: str) -> str:
    """How many loaves of a bread are in stock."""
    return f"in stock: {dict(rye=20, wheat=35)[item]} loaves"


def price(item: str) -> str:
    """What a loaf of a bread costs."""
    return f"price: {dict(rye=4.5, wheat=3)[item]} euros"


async def main():
    baker = FunctionAgent(
        tools=[stock, price],
        llm=OpenAI(model="gpt-4o-mini"),
        system_prompt="You know the bakery. Look things up.",
    )
    print(json.dumps(str(await baker.run("What do we earn if we sell all the rye bread?"))))


asyncio.run(main())
