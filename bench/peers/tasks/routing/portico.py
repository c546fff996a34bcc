"""Routing by intent with Portico."""

import json

from portico import Client
from portico.flow import intent, llm, switch

WISHES = ("I was charged twice on my invoice.", "The oven does not start.", "Good morning!")
INTENTS = {"billing": "invoices and payments", "repair": "machines that do not work", "chat": "anything else"}

desk = switch(
    {name: llm("default", system=f"You answer for {name}.") for name in INTENTS}, on=intent(INTENTS)
)
with Client() as client:
    print(json.dumps([client.run(desk, wish) for wish in WISHES]))
