"""A desk hands the conversation to the agent who knows; that one keeps it until it hands back."""

from portico.agent import Agent, Handoff
from portico.wire import Finished, HandedOff

tickets = Agent("default", "You sell tickets.", name="tickets", description="Sells tickets for the ferry.")
desk = Agent(
    "default", "You are the front desk. Tickets are not your affair.", name="desk", agents=[Handoff(tickets)]
)

for said in ("Good morning!", "Two tickets to the island, please.", "For Sunday.", "Where is the toilet?"):
    print("guest:", said)
    for _, event in desk.stream(said, session="guest 7"):
        match event:
            case HandedOff(to=name):
                print("  (over to", name + ")")
            case Finished(result=answer):
                print(f"{answer.sender}: {answer.content}")
