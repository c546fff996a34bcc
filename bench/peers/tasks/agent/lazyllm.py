"""An agent with two tools in LazyLLM."""

import json
import os

import lazyllm
from lazyllm.tools import ReactAgent


def stock(item: str) -> str:
    """How many loaves of a bread are in stock.

    Args:
        item (str): The bread.
    """
    return f"in stock: {dict(rye=20, wheat=35)[item]} loaves"


def price(item: str) -> str:
    """What a loaf of a bread costs.

    Args:
        item (str): The bread.
    """
    return f"price: {dict(rye=4.5, wheat=3)[item]} euros"


llm = lazyllm.OnlineChatModule(
    source="openai",
    model="gpt-4o-mini",
    base_url=os.environ["OPENAI_BASE_URL"] + "/",
    api_key=os.environ["OPENAI_API_KEY"],
)
baker = ReactAgent(llm, tools=[stock, price], enable_builtin_tools=False)
print(json.dumps(baker("What do we earn if we sell all the rye bread?")))
