"""A prompt under a name: another version of it, tried with its cases, and used by whoever asks for the name."""

from portico import Client

with Client() as client:
    first = client.prompts.get("mood")
    print("version", first.version, first.messages[0]["content"])

    second = client.prompts.save(
        "mood",
        description=first.description,
        arguments=first.arguments,
        messages=[{"role": "user", "content": "Is this praise or blame? Answer with one word. {text}"}],
        cases=first.cases,
    )
    print("version", second.version, second.messages[0]["content"])

    for version in (1, 2):
        run = client.prompts.evaluate("mood", "default", version=version)
        counts = run.result_counts
        print(f"version {version}: {counts['passed']} of {counts['total']} cases")
        for item in client.evals.outputs(run.eval_id, run.id, status="fail").data:
            print("  failed:", item.text)

    print(client.chat(client.prompts.render("mood", {"text": "Never again."})).read().text)
    print(client.prompts.export("mood", version=1).text.splitlines()[-1])
