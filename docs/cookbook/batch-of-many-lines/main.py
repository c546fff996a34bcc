"""Three hundred remarks are sorted in one batch; one line cannot be answered, and is told apart."""

from collections import Counter

from portico import Client

REMARKS = ("The soup was cold.", "Thank you, it was lovely.", "When do you open?", "My chair is broken.")


def request(text):
    """The body of one request."""
    return {"model": "default", "messages": [{"role": "user", "content": f"Sort this remark: {text}"}]}


requests = {f"remark-{number:03}": request(REMARKS[number % len(REMARKS)]) for number in range(299)}
requests["remark-299"] = request("(unreadable)")

with Client() as client:
    checked = client.batches.check(requests)
    print("checked:", checked.total, "lines for", checked.model, "with", len(checked.errors), "errors")
    batch = client.batches.create(requests, metadata={"team": "kitchen"})
    batch = client.batches.wait(batch.id, timeout=60)
    print(batch.status, batch.completed, "answered,", batch.failed, "failed,", batch.total, "in all")

    results = list(client.batches.results(batch.id))
    print("in the order of the file:", [result.custom_id for result in results] == sorted(requests))
    sorts = Counter(r.body["choices"][0]["message"]["content"] for r in results if r.ok)
    print(dict(sorts.most_common()))
    print([(result.custom_id, result.error) for result in results if not result.ok])
