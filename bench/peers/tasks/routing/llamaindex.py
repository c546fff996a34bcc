"""Routing by intent with LlamaIndex."""

import json

from llama_index.core import Settings
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool
from llama_index.llms.openai import OpenAI

WISHES = ("I was charged twice on my invoice.", "The oven does not start.", "Good morning!")
INTENTS = {"billing": "invoices and payments", "repair": "machines that do not work", "chat": "anything else"}

Settings.llm = OpenAI(model="gpt-4o-mini")


class Clerk(CustomQueryEngine):
    name: str

    def custom_query(self, query_str: str) -> Response:
        system = ChatMessage(role="system", content=f"You answer for {self.name}.")
        answer = Settings.llm.chat([system, ChatMessage(role="user", content=query_str)])
        return Response(response=answer.message.content)


tools = [
    QueryEngineTool.from_defaults(Clerk(name=name), name=name, description=f"{name}: {what}")
    for name, what in INTENTS.items()
]
desk = RouterQueryEngine(selector=LLMSingleSelector.from_defaults(), query_engine_tools=tools)
print(json.dumps([str(desk.query(wish)) for wish in WISHES]))
