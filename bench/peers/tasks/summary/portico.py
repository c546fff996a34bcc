"""Map and reduce with Portico."""

import json
from pathlib import Path

from portico import Client
from portico.flow import flow, llm, pipeline, warp
from portico.wire import Finished

summary = flow(
    pipeline(
        warp(llm("default", system="Sum this report up in one sentence.")),
        lambda *notes: "\n".join(notes),
        llm("default", system="Make one summary of these notes."),
    ),
    name="summary",
    durability="normal",
)

with Client() as client:
    client.apps.deploy("summary", summary)
    runs = [run.id for run in client.runs.list() if run.name == "summary"]
    if runs:  # started earlier; the daemon continues the run
        [result] = [
            item.event.result for item in client.runs.events(runs[0]) if isinstance(item.event, Finished)
        ]
    else:
        result = client.apps.run(
            "summary", [path.read_text() for path in sorted(Path("reports").glob("*.txt"))]
        )
print(json.dumps(result))
