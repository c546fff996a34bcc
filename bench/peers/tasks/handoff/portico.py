"""A hand-over between agents in Portico."""

import json

from portico.agent import Agent, Handoff


def fare(people: int) -> str:
    """The fare to the island for so many people."""
    return f"fare: {9 * people} euros"


tickets = Agent("default", "You sell tickets.", name="tickets", description="Sells tickets.", tools=[fare])
desk = Agent("default", "You are the front desk. Tickets are not your affair.", agents=[Handoff(tickets)])
print(json.dumps(desk("Two tickets to the island, please.").content))
