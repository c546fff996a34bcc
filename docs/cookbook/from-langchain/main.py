"""An agent with a tool and a memory: the function stays here, the agent and its conversation are the daemon's."""

from portico.agent import Agent


def weather(city: str) -> str:
    """The weather in a city."""
    print(f"  weather({city!r}) is called here")
    return f"Rain in {city}, 12 degrees."


def forecaster() -> Agent:
    """The same agent, as each start of this program makes it."""
    return Agent("default", "You forecast the weather.", name="forecaster", tools=[weather])


agent = forecaster()
print(agent("What is the weather in Genoa?", session="ann").content)
print(agent("Hello!", session="ben").content)

again = forecaster()
print(again("And tomorrow?", session="ann").content)
for name in ("ann", "ben"):
    print(f"{name}: {len(again.memory(name))} messages")
