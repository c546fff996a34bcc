"""Sum up a document that is longer than a prompt: each section by itself, eight at once, then the whole."""

from pathlib import Path

from portico import Client
from portico.flow import flow, llm, pipeline, warp

summary = flow(
    pipeline(
        notes=warp(llm("default", system="Sum this section up in one sentence.")),
        joined=lambda *notes: "Notes:\n" + "\n".join(notes),
        whole=llm("default", system="Make one short summary of these notes."),
    ),
    durability="normal",
)

with Client() as client:
    cut = client.chunkers.preview(Path("report.md"), {"type": "section", "size": 250})[0]
    running = client.start(summary, [chunk.text for chunk in cut.chunks])
    whole = running.result()
    print(f"{cut.total} sections, one of at most {cut.longest} columns")
    steps = {step.path: step for step in client.runs.trace(running.id)}
    print(steps["pipeline.joined"].output)
    print(whole)
