"""Anthropic's own client: a message, a stream, a tool of yours, and an app whose answer has citations."""

import os

from anthropic import Anthropic

client = Anthropic(base_url=os.environ.get("PORTICO_URL", "http://127.0.0.1:8642"), api_key="none")


def ask(*messages, model="claude-sonnet-5-5", **options):
    """One answer of a model or an app."""
    return client.messages.create(model=model, max_tokens=200, messages=messages, **options)


counting = [{"role": "user", "content": "Please count."}]
with client.messages.stream(model="claude-sonnet-5-5", max_tokens=200, messages=counting) as stream:
    print("stream:", list(stream.text_stream))

schema = {"type": "object", "properties": {"pier": {"type": "string"}}, "required": ["pier"]}
tools = [{"name": "tide", "description": "When the water is high", "input_schema": schema}]
question = {"role": "user", "content": "When is the tide high at the pier?"}
answer = ask(question, tools=tools)
call = next(block for block in answer.content if block.type == "tool_use")
print("tool:  ", answer.stop_reason, call.name, call.input)
result = {"type": "tool_result", "tool_use_id": call.id, "content": "14:20"}
said = [block.model_dump() for block in answer.content]
last = ask(
    question, {"role": "assistant", "content": said}, {"role": "user", "content": [result]}, tools=tools
)
print("answer:", last.content[0].text)

block = ask({"role": "user", "content": "Who keeps the light?"}, model="lighthouse").content[0]
print("app:   ", block.text)
print("cites: ", block.citations[0].document_title, "|", block.citations[0].cited_text.splitlines()[-1])
