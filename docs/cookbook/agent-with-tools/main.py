"""An agent that looks things up and computes with tools; what it calls is seen while it happens."""

from portico.agent import Agent
from portico.wire import Finished, ToolCalled, ToolReturned

baker = Agent(
    "default", "You plan the day of a bakery. Look things up and compute.", tools=["stock", "calculator"]
)

question = "Twelve tables of six guests come, each eats half a bread. How many must we still bake?"
for _, event in baker.stream(question):
    match event:
        case ToolCalled(name=name, arguments=arguments):
            print("calls", name, arguments)
        case ToolReturned(text=text):
            print("  ", text)
        case Finished(result=answer):
            print(answer.content)
