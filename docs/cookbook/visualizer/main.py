"""Two agents: one looks numbers up in a database, the other draws a chart of them by writing Python."""

from portico.agent import Agent, Handoff
from portico.wire import Finished, HandedOff, ToolCalled, ToolReturned

charter = Agent(
    "default",
    "Draw a chart of the numbers with text alone, by running Python.",
    name="charter",
    description="Draws charts.",
    tools=["python_light"],
)
researcher = Agent(
    "default",
    "Look the numbers up, then hand over to the charter.",
    name="researcher",
    tools=["harbour"],
    agents=[Handoff(charter)],
)

for _, event in researcher.stream(
    "Draw the ships that came in each of the last five years.", session="chart"
):
    match event:
        case ToolCalled(name="harbour", arguments=arguments):
            print("looks up", arguments)
        case HandedOff(to=name):
            print("over to", name)
        case ToolReturned(name="python_light", text=chart):
            print(chart)
        case Finished(result=answer):
            print(f"{answer.sender}: {answer.content}")
