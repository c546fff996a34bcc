"""A question that no single document answers: search, read, ask what is missing, search again, answer."""

from portico import Client
from portico.flow import bind, input, llm, output, pipeline, retrieve

read = lambda passages: "\n".join(passage["text"] for passage in passages)  # noqa: E731
both = lambda first, second, question: {"notes": first + "\n" + second, "question": question}  # noqa: E731

research = pipeline(
    first=retrieve("harbour", top_k=1),
    notes=read,
    ask=bind(lambda notes, question: {"notes": notes, "question": question}, output("notes"), input),
    follow_up=llm("default", system="Write the one question that is still open.", user="{question}\n{notes}"),
    second=retrieve("harbour", top_k=1),
    more=read,
    all=bind(both, output("notes"), output("more"), input),
    answer=llm("default", system="Answer from the notes.", user="{question}\nAll notes:\n{notes}"),
)

with Client() as client:
    running = client.start(research, "Who built the ship that Captain Hale commands?")
    answer = running.result()
    steps = {step.path: step.output for step in client.runs.trace(running.id)}
    print("read:", steps["pipeline.first"][0]["filename"])
    print("asked:", steps["pipeline.follow_up"])
    print("read:", steps["pipeline.second"][0]["filename"])
    print("answer:", answer)
