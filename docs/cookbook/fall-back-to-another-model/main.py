"""A provider is down, and the first model in its place is busy: the next one answers, and callers see which."""

import os

from openai import OpenAI

from portico import Client, PorticoError

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")
openai = OpenAI(base_url=f"{url}/v1", api_key="none")


def ask(text):
    """Ask `default`, and print who answered what."""
    answer = openai.chat.completions.create(model="default", messages=[{"role": "user", "content": text}])
    print(f"{answer.model}: {answer.choices[0].message.content}")


ask("When does the harbour open?")
ask("Tell a story.")

with Client() as client:
    try:
        client.chat("When does the harbour open?", "busy").read()
    except PorticoError as error:
        print(f"busy, asked by its own name: {error.status} {error.message}")

    client.models.alias("default", "near")
ask("Is it open now?")
