"""Ask pages that were scanned, in Chinese; what is read in the pictures is quoted with its page."""

from portico import Client

with Client() as client:
    for question in ("图书馆晚上几点关门？", "借书证丢失以后怎么办？"):
        answer = client.ask(question, app="library").read()
        print(answer.text)
        passage = answer.passages[0]
        print(f"  {passage.filename}, page {passage.place.page}")
