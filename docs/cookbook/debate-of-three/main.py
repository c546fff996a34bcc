"""Three agents argue at once, see what the others said, argue again; a fourth one decides."""

from portico import Client

with Client() as client:
    running = client.apps.start("panel", "Shall the bakery open on Sundays?")
    verdict = running.result()
    for step in sorted(client.runs.trace(running.id), key=lambda step: step.path):
        if step.kind == "agent" and "rounds" in step.path:
            print(f"{step.path}: {step.output}")
    print("verdict:", verdict)
