"""A conversation that outlives its program, with Lagent."""

import json
import os
import sys
from pathlib import Path

from lagent.agents import Agent
from lagent.llms import GPTAPI

friend = Agent(
    GPTAPI("gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"] + "/chat/completions"), "You are a friend."
)
kept = Path("memory.json")
if kept.exists():
    friend.load_state_dict(json.loads(kept.read_text()))
answer = friend(sys.argv[1])
kept.write_text(json.dumps(friend.state_dict()))
print(json.dumps(answer.content))
