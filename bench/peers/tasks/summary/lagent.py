"""Map and reduce with Lagent."""

import asyncio
import json
import os
from pathlib import Path

from lagent.agents import AsyncAgent
from lagent.llms import AsyncGPTAPI


class Summary(AsyncAgent):
    def __init__(self):
        super().__init__()
        llm = AsyncGPTAPI("gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"] + "/chat/completions")
        self.note = AsyncAgent(llm, "Sum this report up in one sentence.")
        self.whole = AsyncAgent(llm, "Make one summary of these notes.")

    async def forward(self, *texts, session_id=0):
        calls = (self.note(text, session_id=number) for number, text in enumerate(texts))
        notes = await asyncio.gather(*calls)
        return await self.whole("\n".join(note.content for note in notes))


texts = [path.read_text() for path in sorted(Path("reports").glob("*.txt"))]
print(json.dumps(asyncio.run(Summary()(*texts)).content))
