"""A tool that a person approves, with Portico."""

import json
import sys
from pathlib import Path

from portico import Client
from portico.agent import Agent
from portico.flow import flow, pipeline
from portico.wire import Asked, Failed, Finished


def refund(customer: str, amount: float) -> str:
    """Pay money back to a customer."""
    with Path("effects.txt").open("a") as file:
        file.write(f"refund {customer}\n")
    return f"Refunded {amount:g} euros to {customer}"


if __name__ == "__main__":
    with Client() as client:
        if sys.argv[1:] == ["approve"]:
            [question] = [one for one in client.questions.list() if one.name == "refund"]
            if question.status == "pending":
                client.questions.answer(question.id, True)
            for item in client.runs.events(question.run):
                if isinstance(item.event, Finished):
                    print(json.dumps(item.event.result))
                if isinstance(item.event, Failed):
                    sys.exit(item.event.error.message)
        else:
            tool = {"name": "refund", "function": "main:refund", "folder": ".", "approval": "always"}
            client.apply({"tools": [tool]}, folder=str(Path.cwd()))
            clerk = pipeline(Agent("default", "You answer complaints.", tools=["refund"]))
            client.apps.deploy("clerk", flow(clerk, name="clerk", durability="full"))
            for event in client.apps.start("clerk", "Ada's mug for 12 euros is broken.").events():
                if isinstance(event, Asked):
                    print(json.dumps({"asked": dict(event.arguments)}))
                    break
