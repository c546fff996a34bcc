"""A conversation that outlives its program, with LangChain."""

import json
import sys

from langchain.agents import create_agent
from langgraph.checkpoint.sqlite import SqliteSaver

with SqliteSaver.from_conn_string("memory.db") as saver:
    friend = create_agent("openai:gpt-4o-mini", system_prompt="You are a friend.", checkpointer=saver)
    said = {"messages": [{"role": "user", "content": sys.argv[1]}]}
    answer = friend.invoke(said, {"configurable": {"thread_id": "ada"}})
print(json.dumps(answer["messages"][-1].content))
