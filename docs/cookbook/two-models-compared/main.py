"""Which model is better at your questions? One evaluation, a run for each model, and the items that differ."""

from portico import Client

ITEMS = [
    {"country": "France", "capital": "Paris"},
    {"country": "Australia", "capital": "Canberra"},
    {"country": "Peru", "capital": "Lima"},
    {"country": "Turkey", "capital": "Ankara"},
]
CRITERIA = [
    {
        "type": "string_check",
        "name": "right",
        "operation": "ilike",
        "input": "{{sample.output_text}}",
        "reference": "{{item.capital}}",
    },
    {
        "type": "python",
        "name": "brief",
        "pass_threshold": 1,
        "source": "def grade(sample, item):\n    return float(len(sample['output_text'].split()) < 4)",
    },
]
ASK = [{"role": "user", "content": "What is the capital of {{item.country}}?"}]

with Client() as client:
    test = client.evals.create("capitals", CRITERIA)
    for model in ("small", "large"):
        source = {"model": model, "messages": ASK}
        run = client.evals.wait(client.evals.run(test.id, source, ITEMS, name=model))
        print(f"{model}: score {run.score:.3f} ± {run.standard_error:.3f}")
        print("  passed:", {one.testing_criteria: one.passed for one in run.criteria}, "of", len(ITEMS))
        for item in client.evals.outputs(test.id, run.id, status="fail").data:
            print(f"  {item.datasource_item['country']}: {item.text}")

    search = client.evals.wait_search(
        client.evals.search(
            test.id, {"model": "small", "messages": ASK}, ITEMS, {"model": ["small", "large"]}
        )
    )
    print("the better one:", search.trials[0].settings["model"])
