"""A conversation with a name is kept by the daemon; a copy of it goes its own way."""

from portico import Client
from portico.agent import Agent

agent = Agent("default", "You plan journeys.", name="planner")
print(agent("We are four and want to see the sea.", session="summer").content)

# Any other program that uses the name continues, also after a restart of the daemon.
again = Agent("default", "You plan journeys.", name="planner")
print(again("By train, please.", session="summer").content)

with Client() as client:
    [summer] = client.sessions.list("planner", name="summer")
    client.sessions.fork(summer.id, "without children")
    print(again("And for two of us alone?", session="without children").content)
    for session in sorted(client.sessions.list("planner"), key=lambda found: found.name):
        said = client.sessions.messages(session.id)
        print(f"{session.name}: {len(said)} messages, last: {said[-1].message['content']}")
    print("found:", [found.name for found in client.sessions.list("planner", search="two of us")])
