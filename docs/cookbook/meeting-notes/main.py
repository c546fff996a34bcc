"""A recording becomes text, and the text a summary and a list of actions, as JSON of a fixed shape."""

from dataclasses import dataclass
from pathlib import Path

from portico import Client
from portico.flow import llm, pipeline, tool, value


@dataclass
class Action:
    who: str
    what: str
    until: str


@dataclass
class Notes:
    summary: str
    actions: list[Action]


notes = pipeline(
    heard=tool("transcribe", file=value, model="ear"),
    notes=llm("default", system="Sum the meeting up and list who does what.", user="{text}", format=Notes),
)

with Client() as client:
    recording = client.files.add(Path("meeting.wav"))
    print(client.tools.call("transcribe", {"file": recording.id, "model": "ear"}).structured["text"])
    found = client.run(notes, recording.id)
    print(found["summary"])
    for action in found["actions"]:
        print(f"- {action['who']}: {action['what']} (until {action['until']})")
    client.files.remove(recording.id)
