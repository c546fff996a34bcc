"""One step for every item of a list, four at once: the results stay in order, and a failure stays with its item."""

from portico import Client
from portico.flow import flow, llm, warp

sort = flow(
    warp(llm("default", system="Answer with one word: berth, crane or office."), concurrency=4, collect=True),
    name="sort",
    input=list[str],
)

LETTERS = [
    "Where may my boat lie?",
    "The hook is broken.",
    "Please send the invoice again.",
    "(unreadable)",
    "Is there room for two more boats?",
]

with Client() as client:
    running = client.start(sort, LETTERS)
    results = running.result()
    for letter, result in zip(LETTERS, results, strict=True):
        print(letter, "→", result if isinstance(result, str) else f"error {result['error']['code']}")
    print("calls of the model:", sum(step.kind == "llm" for step in client.runs.trace(running.id)))
