"""Sort a mailbox: each mail gets an urgency, a department and a draft, as JSON, and the urgent ones come first."""

import json
import mailbox
from pathlib import Path
from typing import Literal, TypedDict

from portico import Client
from portico.flow import llm, warp


class Sorted(TypedDict):
    urgency: Literal["high", "normal", "low"]
    department: Literal["shop", "office", "nobody"]
    draft: str


URGENCIES = ["high", "normal", "low"]
triage = warp(
    llm("default", system="Sort this e-mail and draft an answer.", user="{subject}\n\n{text}", format=Sorted)
)

box = mailbox.mbox("inbox.mbox")
mails = [{"subject": mail["subject"], "text": mail.get_payload()} for mail in box]
box.close()
with Client() as client:
    found = [{"subject": mail["subject"], **one} for mail, one in zip(mails, client.run(triage, mails))]
found.sort(key=lambda one: URGENCIES.index(one["urgency"]))
Path("sorted.json").write_text(json.dumps(found, indent=2, ensure_ascii=False), encoding="utf-8")
for one in found:
    print(f"{one['urgency']:<7}{one['department']:<8}{one['subject']}")
    if one["draft"]:
        print(f"       > {one['draft']}")
