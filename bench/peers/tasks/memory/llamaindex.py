"""A conversation that outlives its program, with LlamaIndex."""

import json
import sys

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.memory import Memory
from llama_index.llms.openai import OpenAI

memory = Memory.from_defaults(session_id="ada", async_database_uri="sqlite+aiosqlite:///memory.db")
friend = SimpleChatEngine.from_defaults(
    llm=OpenAI(model="gpt-4o-mini"), memory=memory, system_prompt="You are a friend."
)
print(json.dumps(str(friend.chat(sys.argv[1]))))
