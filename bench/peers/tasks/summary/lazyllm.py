"""Map and reduce with LazyLLM."""

import json
import os
from pathlib import Path

import lazyllm
from lazyllm import pipeline, warp

llm = lazyllm.OnlineChatModule(
    source="openai",
    model="gpt-4o-mini",
    base_url=os.environ["OPENAI_BASE_URL"] + "/",
    api_key=os.environ["OPENAI_API_KEY"],
)
with pipeline() as summary:
    summary.notes = warp(llm.share(prompt="Sum this report up in one sentence."), _concurrent=8)
    summary.joined = lambda *notes: "\n".join(notes)
    summary.whole = llm.share(prompt="Make one summary of these notes.")
print(json.dumps(summary([path.read_text() for path in sorted(Path("reports").glob("*.txt"))])))
