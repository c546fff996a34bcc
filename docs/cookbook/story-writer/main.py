"""A story writer: a typed outline, its chapters at once, and the whole; a failure costs one chapter, not the book."""

from dataclasses import dataclass

from portico import Client, PorticoError
from portico.flow import bind, flow, llm, output, pipeline, warp
from portico.wire import Finished


@dataclass
class Chapter:
    """One entry of the outline."""

    title: str
    about: str


story = flow(
    pipeline(
        outline=llm(
            "default", system="Write an outline: titles, and what each is about.", format=list[Chapter]
        ),
        chapters=warp(llm("default", system="Write this chapter in one sentence.", user="{title}: {about}")),
        book=bind(
            lambda *texts, outline: "\n".join(f"{c['title']}. {text}" for c, text in zip(outline, texts)),
            outline=output("outline"),
        ),
    ),
    name="story",
    durability="normal",
)

with Client() as client:
    client.apps.deploy("story", story)
    running = client.apps.start("story", "A lighthouse keeper and a whale")
    try:
        running.result()
    except PorticoError as error:
        print("failed:", error)
    client.runs.resume(running.id)
    for item in client.runs.events(running.id):
        if isinstance(item.event, Finished):
            print(item.event.result)
    written = [step.output for step in client.runs.trace(running.id) if step.kind == "llm"]
    print("answers of the model:", len(written))
