"""Map and reduce with LlamaIndex."""

import asyncio
import json
from pathlib import Path

from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step
from llama_index.llms.openai import OpenAI


class Report(Event):
    text: str


class Note(Event):
    text: str


class Summary(Workflow):
    llm = OpenAI(model="gpt-4o-mini")

    @step
    async def spread(self, ctx: Context, ev: StartEvent) -> Report | None:
        await ctx.store.set("count", len(ev.texts))
        for text in ev.texts:
            ctx.send_event(Report(text=text))

    @step(num_workers=8)
    async def note(self, ev: Report) -> Note:
        answer = await self.llm.acomplete(f"Sum this report up in one sentence.\n\n{ev.text}")
        return Note(text=answer.text)

    @step
    async def whole(self, ctx: Context, ev: Note) -> StopEvent | None:
        notes = ctx.collect_events(ev, [Note] * await ctx.store.get("count"))
        if notes is None:
            return None
        said = "\n".join(note.text for note in notes)
        return StopEvent(
            result=(await self.llm.acomplete(f"Make one summary of these notes.\n\n{said}")).text
        )


async def main():
    texts = [path.read_text() for path in sorted(Path("reports").glob("*.txt"))]
    print(json.dumps(await Summary(timeout=60).run(texts=texts)))


asyncio.run(main())
