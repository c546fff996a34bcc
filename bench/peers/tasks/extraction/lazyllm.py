"""Objects of a schema with LazyLLM."""

import json
import os
from pathlib import Path

import lazyllm
from lazyllm.components.formatter import JsonFormatter

PROMPT = """Take the fields out of this invoice. Answer with a JSON object that has the keys number (text),
seller (text), total (number) and currency (text), and nothing else."""

llm = lazyllm.OnlineChatModule(
    source="openai",
    model="gpt-4o-mini",
    base_url=os.environ["OPENAI_BASE_URL"] + "/",
    api_key=os.environ["OPENAI_API_KEY"],
)
extract = lazyllm.warp(llm.share(prompt=PROMPT).formatter(JsonFormatter()))
texts = [path.read_text() for path in sorted(Path("invoices").glob("*.txt"))]
print(json.dumps(list(extract(texts))))
