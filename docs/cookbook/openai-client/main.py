"""OpenAI's own client, with nothing changed but its address: a chat, a stream, a tool of yours, and vectors."""

import json
import os

from openai import OpenAI

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")
client = OpenAI(base_url=f"{url}/v1", api_key="none")


def ask(*messages, **options):
    """What the model says next."""
    return client.chat.completions.create(model="default", messages=messages, **options).choices[0].message


print("models:", [model.id for model in client.models.list()])
print("chat:  ", ask({"role": "user", "content": "What is a harbour, in one sentence?"}).content)

stream = client.chat.completions.create(
    model="default", messages=[{"role": "user", "content": "Please count."}], stream=True
)
pieces = [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
print("stream:", [piece for piece in pieces if piece])

pier = {"type": "object", "properties": {"pier": {"type": "string"}}, "required": ["pier"]}
tools = [{"type": "function", "function": {"name": "depth", "parameters": pier}}]
question = {"role": "user", "content": "How deep is the harbour?"}
answer = ask(question, tools=tools)
call = answer.tool_calls[0]
print("tool:  ", call.function.name, json.loads(call.function.arguments))
result = {"role": "tool", "tool_call_id": call.id, "content": "4.5 m"}
print("answer:", ask(question, answer, result, tools=tools).content)

texts = ["ships in the harbour", "a ship in a harbour", "bread is baked"]
first, second, third = (
    row.embedding for row in client.embeddings.create(model="default-embedding", input=texts).data
)
print("nearer:", sum(map(float.__mul__, first, second)) > sum(map(float.__mul__, first, third)))
