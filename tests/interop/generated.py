"""Twenty calls with a client that openapi-python-client generated: python generated.py FOLDER URL

FOLDER contains the generated package ``generated``. Prints the names of the calls that worked, one a line.
"""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

sys.path.insert(0, sys.argv[1])

from generated import Client, models  # generated when the test runs
from generated.api.anthropic_messages import count_message_tokens, create_message
from generated.api.apps import deploy_app, draw_app, run_app
from generated.api.daemon import health, ready
from generated.api.keys import create_key, revoke_key
from generated.api.open_ai_conversations import create_conversation, list_items
from generated.api.open_ai_files import create_file, read_file
from generated.api.open_ai_models import (
    create_chat_completion,
    create_embedding,
    create_response,
    create_speech,
    list_models,
)
from generated.api.open_ai_responses import retrieve_response
from generated.api.stores import export_store, search_store
from generated.types import File

client = Client(base_url=sys.argv[2], raise_on_unexpected_status=True)
HELLO = [{"role": "user", "content": "Hello"}]
FLOW = {"portico_flow": 1, "step": {"op": "llm"}}


def call(operation: Any, *arguments: Any, **options: Any) -> Any:
    """Return the parsed answer of an operation. An error document is a failure."""
    response = operation.sync_detailed(*arguments, client=client, **options)
    assert response.status_code == 200, response.content
    print(operation.__name__.rpartition(".")[2])
    return response.parsed


assert call(health).status == "ok"
assert call(ready).status == "ready"
assert "echo" in [model.id for model in call(list_models).data]
body = models.CreateChatCompletionBody.from_dict({"model": "echo", "messages": HELLO})
assert call(create_chat_completion, body=body).choices[0].message.content == "Hello"
body = models.CreateEmbeddingBody.from_dict({"model": "fake-embedding", "input": "Hello"})
assert len(call(create_embedding, body=body).data[0].embedding) == 64
body = models.CreateResponseBody.from_dict({"model": "echo", "input": "Hello"})
response = call(create_response, body=body)
assert response.output[0].content[0].text == "Hello"
included = call(retrieve_response, response.id, include=["message.output_text.logprobs"])
assert included.id == response.id
conversation = call(create_conversation, body=models.CreateConversationBodyType0.from_dict({"items": HELLO}))
[item] = call(list_items, conversation.id, include=["message.output_text.logprobs"]).data
assert item.content[0].text == "Hello"
body = models.CreateMessageBody.from_dict({"model": "echo", "messages": HELLO, "max_tokens": 9})
assert call(create_message, body=body).content[0].text == "Hello"
body = models.CountMessageTokensBody.from_dict({"model": "echo", "messages": HELLO})
assert call(count_message_tokens, body=body).input_tokens > 0
note = File(payload=BytesIO(b"\x00\xff"), file_name="note.bin", mime_type="application/octet-stream")
form = models.CreateFileBody(file=note, purpose=models.CreateFileBodyPurpose.USER_DATA)
file_id = call(create_file, body=form).id
assert call(read_file, file_id).payload.read() == b"\x00\xff"
body = models.CreateSpeechBody.from_dict({"model": "voice", "input": "Hello", "response_format": "wav"})
assert call(create_speech, body=body).payload.read(4) == b"RIFF"
[passage, *_] = call(search_store, "handbook", body=models.SearchRequest.from_dict({"query": "port"})).data
assert "7419" in passage["text"]
assert call(export_store, "handbook", vectors=False).payload.read(2) == b"PK"
app = call(deploy_app, body=models.DeployedApp.from_dict({"name": "parrot", "spec": FLOW}))
assert app.version == 1
run = call(run_app, app.name, body=models.RunInput.from_dict({"input": "Hello"}), stream=False)
assert run.output == "Hello"
assert call(draw_app, app.name).startswith("flowchart")
key = call(create_key, body=models.KeyRequest.from_dict({"name": "guest", "scopes": ["chat"]}))
assert call(revoke_key, key.id)
