"""The Responses API: answers that the daemon keeps, a search as a tool, and a conversation that lasts."""

import os

from openai import OpenAI

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")
client = OpenAI(base_url=f"{url}/v1", api_key="none")

first = client.responses.create(model="default", input="My name is Ann.")
second = client.responses.create(model="default", input="What is my name?", previous_response_id=first.id)
print(first.output_text, "|", second.output_text)

search = {"type": "file_search", "vector_store_ids": ["timetable"]}
answer = client.responses.create(
    model="default", input="In the evening, which ferry is last?", tools=[search]
)
print([item.type for item in answer.output], answer.output_text)
print("cites:", [note.filename for note in answer.output[-1].content[0].annotations])

talk = client.conversations.create(items=[{"type": "message", "role": "user", "content": "My name is Ann."}])
client.responses.create(model="default", input="What is my name?", conversation=talk.id)
for item in client.conversations.items.list(talk.id, order="asc"):
    print(f"  {item.role}: {item.content[0].text}")
client.responses.delete(first.id)
client.conversations.delete(talk.id)
