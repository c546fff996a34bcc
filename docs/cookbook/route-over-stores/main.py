"""Several stores and one question: a model chooses by their descriptions where to look."""

from portico import Client

STORES = ("recipes", "contracts", "machines")

with Client() as client:
    for question in ("How long does rye bread bake?", "When can the lease be ended?", "What does E4 mean?"):
        found = client.search(STORES, question, route=True, max_num_results=1, trace=True)
        route = next(stage for stage in found.trace if stage.name == "route")
        print(f"{question}  [{route.note}]")
        for passage in found.passages:
            print(f"  {passage.store}, {passage.filename}: {passage.text.splitlines()[-1]}")
