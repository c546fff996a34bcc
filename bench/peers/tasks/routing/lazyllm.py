"""Routing by intent with LazyLLM."""

import json
import os

import lazyllm
from lazyllm.tools import IntentClassifier

WISHES = ("I was charged twice on my invoice.", "The oven does not start.", "Good morning!")
INTENTS = {"billing": "invoices and payments", "repair": "machines that do not work", "chat": "anything else"}

llm = lazyllm.OnlineChatModule(
    source="openai",
    model="gpt-4o-mini",
    base_url=os.environ["OPENAI_BASE_URL"] + "/",
    api_key=os.environ["OPENAI_API_KEY"],
)
with IntentClassifier(llm, prompt="; ".join(map(": ".join, INTENTS.items()))) as desk:
    for name in INTENTS:
        desk.case[name, llm.share(prompt=f"You answer for {name}.")]
print(json.dumps([desk(wish) for wish in WISHES]))
