"""Take the same fields out of many files, held to a schema, several files at once."""

from dataclasses import dataclass
from pathlib import Path

from portico import Client
from portico.flow import llm, pipeline, warp


@dataclass
class Invoice:
    number: str
    seller: str
    total: float
    currency: str


extract = pipeline(
    invoices=warp(llm("default", system="Take the fields out of this invoice.", format=Invoice)),
    report=lambda *invoices: {
        "invoices": sorted(invoices, key=lambda one: one["number"]),
        "total": sum(one["total"] for one in invoices if one["currency"] == "EUR"),
    },
)

with Client() as client:
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path("invoices").glob("*.txt"))]
    report = client.run(extract, texts)
    for invoice in report["invoices"]:
        print(f"{invoice['number']}  {invoice['seller']:<15}{invoice['total']:>8.2f} {invoice['currency']}")
    print(f"in euros: {report['total']:.2f}")
