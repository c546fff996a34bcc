"""Ask a manual in PDF; each citation names the page, and the passage itself can be shown."""

from portico import Client

with Client() as client:
    for question in ("What does the code E4 mean?", "How long must the oven cool down?"):
        answer = client.ask(question, app="manual").read()
        print(answer.text)
        passage = answer.passages[0]
        print(f"  {passage.filename}, page {passage.place.page}")
