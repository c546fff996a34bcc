"""Functions of this program become tools of the daemon: it calls them, they are executed here."""

import threading

from portico import Client, Function
from portico.agent import Agent

PRICES = {"bread": 3.2, "roll": 0.6}


def price(item: str, pieces: int = 1) -> float:
    """What pieces of an item cost, in euros.

    item: bread or roll
    """
    return round(PRICES[item] * pieces, 2)


def change_price(item: str, euros: float) -> str:
    """Sell an item at another price."""
    PRICES[item] = euros
    return f"{item} costs {euros:g} now"


stop, ready = threading.Event(), threading.Event()
with Client() as client:
    functions = [Function.of(price, read_only=True), change_price]
    server = threading.Thread(target=client.serve, args=(functions,), kwargs={"stop": stop, "ready": ready})
    server.start()
    ready.wait(30)
    print(client.tools.get("price").description)
    print(client.tools.call("price", {"item": "roll", "pieces": 12}).structured)
    print(client.tools.call("change_price", {"item": "bread", "euros": 3.5}).text, PRICES)
    print(Agent("default", "You sell.", tools=["price"])("What do two breads cost?").content)
    stop.set()
    server.join()
    print([tool.name for tool in client.tools.list() if "price" in tool.name])
