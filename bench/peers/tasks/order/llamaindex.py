"""An order of five steps with LlamaIndex; its state is saved after each step."""

import asyncio
import json
from pathlib import Path

from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import Context, Event, JsonSerializer, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI
from workflows.events import StepStateChanged


class Read(Event):
    text: str


class Charged(Event):
    text: str


class Confirmed(Event):
    text: str


class Shipped(Event):
    text: str


def note(line: str) -> None:
    with Path("effects.txt").open("a") as file:
        file.write(line + "\n")


class Order(Workflow):
    llm = OpenAI(model="gpt-4o-mini")

    async def ask(self, system: str, text: str) -> str:
        messages = [ChatMessage(role="system", content=system), ChatMessage(role="user", content=text)]
        return (await self.llm.achat(messages)).message.content

    @step
    async def read(self, ev: StartEvent) -> Read:
        return Read(text=await self.ask("Read the order.", ev.order))

    @step
    async def charge(self, ev: Read) -> Charged:
        note(f"charged {ev.text}")
        return Charged(text=ev.text)

    @step
    async def confirm(self, ev: Charged) -> Confirmed:
        return Confirmed(text=await self.ask("Confirm the order.", ev.text))

    @step
    async def ship(self, ev: Confirmed) -> Shipped:
        note(f"shipped {ev.text}")
        return Shipped(text=ev.text)

    @step
    async def letter(self, ev: Shipped) -> StopEvent:
        return StopEvent(result=await self.ask("Write the letter.", ev.text))


async def main():
    order, kept = Order(timeout=60), Path("order.json")
    if kept.exists():
        handler = order.run(
            ctx=Context.from_dict(order, json.loads(kept.read_text()), serializer=JsonSerializer())
        )
    else:
        handler = order.run(order="12 rye breads for the school")
    async for event in handler.stream_events(expose_internal=True):
        if isinstance(event, StepStateChanged):
            kept.write_text(json.dumps(handler.ctx.to_dict(serializer=JsonSerializer())))
    print(json.dumps(await handler))


asyncio.run(main())
