"""An agent that searches a store again and again, within a budget of turns, tool calls and tokens."""

from portico import PorticoError
from portico.agent import Agent
from portico.wire import Finished, ToolCalled

researcher = Agent(
    "default",
    "Search the store 'archive' until you know, then write a report with the files that you used.",
    name="researcher",
    tools=["search"],
    limits={"turns": 6, "tool_calls": 4, "tokens": 5000},
)

for question in (
    "Who rebuilt the pier, where was that person born, what did it cost?",
    "Find the ghost of the pier.",
):
    print(question)
    try:
        for _, event in researcher.stream(question):
            match event:
                case ToolCalled(name=name, arguments=arguments):
                    print(" ", name, arguments)
                case Finished(result=answer):
                    print(" ", answer.content)
    except PorticoError as error:
        print(f"  {error.code}: {error}")
