"""Objects of a schema with Lagent."""

import json
import os
from pathlib import Path

from lagent.agents import Agent
from lagent.llms import GPTAPI
from lagent.prompts.parsers import JSONParser
from pydantic import BaseModel


class Invoice(BaseModel):
    number: str
    seller: str
    total: float
    currency: str


parser = JSONParser("Answer with JSON of this form:\n{invoice}", invoice=Invoice)
llm = GPTAPI("gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"] + "/chat/completions")
reader = Agent(llm, "Take the fields out of this invoice.", output_format=parser)
texts = [path.read_text() for path in sorted(Path("invoices").glob("*.txt"))]
invoices = [reader(text, session_id=number).formatted for number, text in enumerate(texts)]
print(json.dumps(invoices))
