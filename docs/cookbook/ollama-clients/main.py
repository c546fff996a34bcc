"""What a program that knows Ollama alone sends, and what it gets: lines of JSON, a schema, vectors, the models."""

import json
import os

import httpx

with httpx.Client(base_url=os.environ.get("PORTICO_URL", "http://127.0.0.1:8642"), timeout=60) as ollama:
    print("tags:    ", sorted(model["name"] for model in ollama.get("/api/tags").json()["models"]))

    chat = {"model": "default", "messages": [{"role": "user", "content": "Please count."}]}
    with ollama.stream("POST", "/api/chat", json=chat) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    print("chat:    ", [line["message"]["content"] for line in lines if line["message"]["content"]])
    print("done:    ", lines[-1]["done_reason"], lines[-1]["eval_count"], "tokens")

    schema = {"type": "object", "properties": {"city": {"type": "string"}, "piers": {"type": "integer"}}}
    asked = {"role": "user", "content": "A harbour, as JSON."}
    body = {"model": "default", "messages": [asked], "format": schema, "stream": False}
    print("schema:  ", json.loads(ollama.post("/api/chat", json=body).json()["message"]["content"]))

    body = {"model": "default:latest", "prompt": "Complete: At night", "stream": False}
    print("generate:", ollama.post("/api/generate", json=body).json()["response"])

    body = {"model": "default-embedding", "input": ["ships", "bread"]}
    vectors = ollama.post("/api/embed", json=body).json()["embeddings"]
    print("embed:   ", len(vectors), "vectors of", len(vectors[0]))

    refused = ollama.post("/api/chat", json={"model": "llama9", "messages": [asked]})
    print("unknown: ", refused.status_code, refused.json()["error"])
