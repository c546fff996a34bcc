"""An agent with two tools in LangChain."""

import json

from langchain.agents import create_agent


def stock(item: str) -> str:
    """How many loaves of a bread are in stock."""
    return f"in stock: {dict(rye=20, wheat=35)[item]} loaves"


def price(item: str) -> str:
    """What a loaf of a bread costs."""
    return f"price: {dict(rye=4.5, wheat=3)[item]} euros"


baker = create_agent(
    "openai:gpt-4o-mini", [stock, price], system_prompt="You know the bakery. Look things up."
)
question = "What do we earn if we sell all the rye bread?"
answer = baker.invoke({"messages": [{"role": "user", "content": question}]})
print(json.dumps(answer["messages"][-1].content))
