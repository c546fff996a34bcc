"""A conversation that outlives its program, with LazyLLM: the program stores the history."""

import json
import os
import sys
from pathlib import Path

import lazyllm

llm = lazyllm.OnlineChatModule(
    source="openai",
    model="gpt-4o-mini",
    base_url=os.environ["OPENAI_BASE_URL"] + "/",
    api_key=os.environ["OPENAI_API_KEY"],
)
friend = llm.prompt("You are a friend.")
kept = Path("memory.json")
history = json.loads(kept.read_text()) if kept.exists() else []
answer = friend(sys.argv[1], llm_chat_history=history)
kept.write_text(json.dumps([*history, [sys.argv[1], answer]]))
print(json.dumps(answer))
