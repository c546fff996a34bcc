"""Objects of a schema with LlamaIndex."""

import asyncio
import json
from pathlib import Path

from llama_index.core.prompts import ChatPromptTemplate
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel


class Invoice(BaseModel):
    number: str
    seller: str
    total: float
    currency: str


prompt = ChatPromptTemplate.from_messages(
    [("system", "Take the fields out of this invoice."), ("user", "{text}")]
)


async def main():
    llm = OpenAI(model="gpt-4o-mini")
    texts = [path.read_text() for path in sorted(Path("invoices").glob("*.txt"))]
    invoices = await asyncio.gather(*(llm.astructured_predict(Invoice, prompt, text=text) for text in texts))
    print(json.dumps([invoice.model_dump() for invoice in invoices]))


asyncio.run(main())
