"""An order waits for a person, fails half-way, and continues behind what is done: nobody pays twice."""

from pathlib import Path

from portico import Client
from portico.flow import approve, flow, input, llm, pipeline, tool
from portico.wire import Asked, Failed, Finished

order = flow(
    pipeline(
        read=llm("default", system="Sum the order up."),
        allowed=approve("May this order go out?"),
        paid=tool("charge", order=input),
        shipped=tool("ship", order=input),
    ),
    name="order",
    input=str,
    durability="full",
)

van = Path("van.txt")
van.unlink(missing_ok=True)

with Client() as client:
    client.apps.deploy("order", order)
    running = client.apps.start("order", "12 breads for the school")
    for event in running.events():
        if isinstance(event, Asked):
            print("asked:", event.message)
            break
    run = running.id
    running.close()  # whoever began it is gone; the run waits in the database

with Client() as other:
    [question] = other.questions.list(status="pending", run=run)
    other.questions.answer(question.id, True)
    for item in other.runs.events(run):
        if isinstance(item.event, Failed):
            print("failed:", item.event.error.code)
    van.write_text("the van is there")
    other.runs.resume(run)
    for item in other.runs.events(run):
        if isinstance(item.event, Finished):
            print("shipped:", item.event.result)
    for step in other.runs.trace(run):
        print(step.path, step.status, step.attempt)
