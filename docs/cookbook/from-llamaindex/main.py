"""A folder as an index that answers with its sources, the passages alone, and an agent with a function."""

from portico import Client
from portico.agent import Agent


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


with Client() as client:
    answer = client.ask("What did she do as a child?", app="essay").read()
    print(answer.text)
    print("source:", answer.passages[0].filename, answer.passages[0].place.label())

    found = client.search("essay", "her own yard", max_num_results=1)
    print("search:", found.passages[0].text.splitlines()[-1])

    agent = Agent("default", "You calculate.", tools=[multiply], client=client)
    print(agent("What is 1234 * 4567?").content)
