"""A writer and a reviewer take turns until the review is good, at most four times."""

from dataclasses import dataclass

from portico import Client
from portico.flow import bind, llm, loop, output, pipeline


@dataclass
class Review:
    """What the reviewer says of a text; ``good``: nothing is left to improve."""

    good: bool
    remark: str


turn = pipeline(
    text=llm("default", system="Write this notice, or improve it as the remark says."),
    review=llm("default", system="Review the notice: is it short, and does it say when?", format=Review),
    both=bind(lambda review, text: {"text": text, **review}, output("review"), output("text")),
)
notice = loop(turn, until=lambda made: made["good"], limit=4)

with Client() as client:
    running = client.start(notice, "The harbour is closed for repairs.")
    print("notice:", running.result()["text"])
    for step in client.runs.trace(running.id):
        if step.kind == "llm":
            print(step.path, "|", step.output)
