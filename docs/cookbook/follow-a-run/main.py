"""What a run does while it works, and what it did: its events, the trace of its steps, tokens and cost."""

from portico import Client
from portico.wire import Finished, StepFinished, StepStarted

with Client() as client:
    running = client.apps.start("essay", "harbours")
    for event in running.events():
        match event:
            case StepStarted():
                print("started ", event.path)
            case StepFinished():
                print("finished", event.path)
            case Finished(result=result):
                print("result  ", result)

    run = client.runs.get(running.id)
    usage = run.usage
    print(run.kind, run.name, run.status, "| tokens:", usage.prompt_tokens, "+", usage.completion_tokens)
    for step in client.runs.trace(run.id):
        if step.kind == "llm":
            print(f"  {step.path}: {step.completion_tokens} tokens, cost {step.cost}, {step.output}")

    again = list(client.runs.events(run.id, after=run.last_event - 2))
    print("the last two events, read again:", len(again))
