"""Objects of a schema with LangChain."""

import json
from pathlib import Path

from langchain.chat_models import init_chat_model
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel


class Invoice(BaseModel):
    number: str
    seller: str
    total: float
    currency: str


texts = [path.read_text() for path in sorted(Path("invoices").glob("*.txt"))]
prompt = ChatPromptTemplate([("system", "Take the fields out of this invoice."), ("human", "{text}")])
extract = prompt | init_chat_model("openai:gpt-4o-mini").with_structured_output(Invoice)
print(json.dumps([invoice.model_dump() for invoice in extract.batch([{"text": text} for text in texts])]))
