"""Objects of a schema with Portico."""

import json
from dataclasses import dataclass
from pathlib import Path

from portico import Client
from portico.flow import llm, warp


@dataclass
class Invoice:
    number: str
    seller: str
    total: float
    currency: str


texts = [path.read_text() for path in sorted(Path("invoices").glob("*.txt"))]
with Client() as client:
    extract = warp(llm("default", system="Take the fields out of this invoice.", format=Invoice))
    print(json.dumps(client.run(extract, texts)))
