"""Ask a folder of source code; each answer names the function or method that it stands on."""

from portico import Client

with Client() as client:
    for question in ("How is the price of an order computed?", "When is the oven too full for more loaves?"):
        answer = client.ask(question, app="shop").read()
        print(answer.text)
        print(f"  [1] {answer.passages[0].filename}, {answer.passages[0].place.label()}")
        exact = client.search("shop", question, groups=["definitions"], max_num_results=1).passages[0]
        print(f"  exactly: {exact.filename}, {exact.place.label()}")
