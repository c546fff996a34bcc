"""A tool that a person approves, with LlamaIndex."""

import asyncio
import json
import sys
from pathlib import Path

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import Memory
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent, JsonSerializer
from llama_index.llms.openai import OpenAI


async def refund(ctx: Context, customer: str, amount: float) -> str:
    """Pay money back to a customer."""
    asked = InputRequiredEvent(prefix=f"{amount:g} euros to {customer}?")
    answer = await ctx.wait_for_event(HumanResponseEvent, waiter_id="refund", waiter_event=asked)
    if answer.response != "yes":
        return "The refund was refused."
    with Path("effects.txt").open("a") as file:
        file.write(f"refund {customer}\n")
    return f"Refunded {amount:g} euros to {customer}"


async def main():
    llm = OpenAI(model="gpt-4o-mini")
    clerk = FunctionAgent(tools=[refund], llm=llm, system_prompt="You answer complaints.")
    memory = Memory.from_defaults(session_id="ada", async_database_uri="sqlite+aiosqlite:///memory.db")
    kept = Path("clerk.json")
    if sys.argv[1:] == ["approve"]:
        ctx = Context.from_dict(clerk, json.loads(kept.read_text()), serializer=JsonSerializer())
        handler = clerk.run(ctx=ctx)
        await handler.ctx.store.set("memory", memory)  # not part of the context's JSON
        handler.ctx.send_event(HumanResponseEvent(response="yes"))
        print(json.dumps(str(await handler)))
    else:
        handler = clerk.run("Ada's mug for 12 euros is broken.", memory=memory)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                kept.write_text(json.dumps(handler.ctx.to_dict(serializer=JsonSerializer())))
                print(json.dumps({"asked": event.prefix}))
                await handler.cancel_run()
                break
        else:
            await handler


asyncio.run(main())
