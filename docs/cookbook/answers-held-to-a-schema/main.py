"""Letters become invoices of one shape; an answer of another shape is asked for once more, then an error."""

from dataclasses import dataclass
from typing import Literal

from portico import PorticoError
from portico.agent import Agent


@dataclass
class Invoice:
    number: str
    total: float
    currency: Literal["EUR", "CNY"]


reader = Agent("default", "Read the invoice.", name="reader", output=Invoice)

for letter in ("Invoice 17: bread for 96 euros.", "发票 A-204，合计 580 元。", "Happy birthday!"):
    try:
        invoice = Invoice(**reader(letter, session=letter).formatted)
        print(f"{invoice.number}: {invoice.total:.2f} {invoice.currency}")
    except PorticoError as error:
        print(f"{error.code}: {error}")
