"""Ask a folder of documents in two languages; each answer names the file that it comes from."""

from portico import Client

with Client() as client:
    for question in ("At how many degrees is bread baked?", "每天做多少个月饼？"):
        answer = client.ask(question, app="bakery").read()
        print(answer.text)
        for passage in answer.passages[:1]:
            print(f"  [1] {passage.filename}, {passage.place.label()}")
