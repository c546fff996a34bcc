"""An agent with two tools in Portico."""

import json

from portico.agent import Agent


def stock(item: str) -> str:
    """How many loaves of a bread are in stock."""
    return f"in stock: {dict(rye=20, wheat=35)[item]} loaves"


def price(item: str) -> str:
    """What a loaf of a bread costs."""
    return f"price: {dict(rye=4.5, wheat=3)[item]} euros"


baker = Agent("default", "You know the bakery. Look things up.", tools=[stock, price])
print(json.dumps(baker("What do we earn if we sell all the rye bread?").content))
