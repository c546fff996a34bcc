"""An agent may pay money back only when somebody approves; here the program decides, by the amount."""

from portico import Client
from portico.agent import Agent
from portico.wire import Asked, Finished, ToolReturned

clerk = Agent("default", "You answer complaints.", tools=["refund"])

with Client() as client:
    for complaint in ("Ada's mug for 12 euros is broken.", "Bob's piano for 4000 euros is out of tune."):
        print(complaint)
        for _, event in clerk.stream(complaint, session=complaint):
            match event:
                case Asked(id=question, name=tool, arguments=arguments):
                    small = arguments["amount"] <= 100
                    print(" ", tool, dict(arguments), "approved" if small else "refused")
                    client.questions.answer(question, small, note="" if small else "The manager decides.")
                case ToolReturned(text=text):
                    print("   ", text)
                case Finished(result=answer):
                    print(" ", answer.content)
