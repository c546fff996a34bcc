"""A durable order with Portico."""

import json
from pathlib import Path

from portico import Client
from portico.flow import flow, input, llm, pipeline, tool
from portico.wire import Finished


def charge(order: str) -> str:
    """Take the money."""
    with Path("effects.txt").open("a") as file:
        file.write(f"charged {order}\n")
    return f"paid: {order}"


def ship(order: str) -> str:
    """Load the van."""
    with Path("effects.txt").open("a") as file:
        file.write(f"shipped {order}\n")
    return f"shipped: {order}"


order = flow(
    pipeline(
        read=llm("default", system="Read the order."),
        paid=tool("charge", order=input),
        confirmed=llm("default", system="Confirm the order."),
        shipped=tool("ship", order=input),
        letter=llm("default", system="Write the letter."),
    ),
    name="order",
    durability="full",
)

if __name__ == "__main__":
    with Client() as client:
        tools = [{"name": name, "function": f"main:{name}", "folder": "."} for name in ("charge", "ship")]
        client.apply({"tools": tools}, folder=str(Path.cwd()))
        client.apps.deploy("order", order)
        runs = [run.id for run in client.runs.list() if run.name == "order"]
        if runs:  # started earlier; the daemon continues the run
            events = client.runs.events(runs[0])
            [result] = [item.event.result for item in events if isinstance(item.event, Finished)]
        else:
            result = client.apps.run("order", "12 rye breads for the school")
        print(json.dumps(result))
