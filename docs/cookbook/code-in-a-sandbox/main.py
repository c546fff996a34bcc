"""An agent runs Python in a sandbox to compute; what the code may not do is refused there."""

from portico import Client
from portico.agent import Agent
from portico.wire import Finished, ToolCalled, ToolReturned

counter = Agent("default", "Compute by running Python.", tools=["python_light"])

for _, event in counter.stream("Which months of 2026 have a Friday the 13th?"):
    match event:
        case ToolCalled(arguments=arguments):
            print("runs", arguments)
        case ToolReturned(text=text):
            print("  ", text)
        case Finished(result=answer):
            print(answer.content)

with Client() as client:
    for code in ("open('/etc/passwd').read()", "import socket", "[0] * 10**9"):
        done = client.tools.call("python_light", {"code": code})
        print(code, "→", done.text.splitlines()[-1].partition(":")[0])
