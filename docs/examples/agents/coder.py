"""Solve a problem by writing Python, which runs in the sandbox; what it prints or fails with goes back."""

from portico.agent import Agent, Executor, Message, ToolParser


class Coder(Agent):
    """Solves problems of mathematics by programming."""

    def __init__(self, model="default", max_turn=3, tool="code_interpreter"):
        self.agent = Agent(
            model,
            "Solve the problem step by step with assistance of Python code",
            output=ToolParser("code interpreter", begin="```python\n", end="\n```\n"),
            aggregate="tool_text",
        )
        self.executor = Executor([tool])
        self.max_turn = max_turn

    def forward(self, message: Message) -> Message:
        for _ in range(self.max_turn):
            message = self.agent(message)
            if message.formatted["tool_type"] is None:
                return message
            message = self.executor(message)
        return message


QUERY = (
    "Find the projection of $\\mathbf{a}$ onto $\\mathbf{b} = "
    "\\begin{pmatrix} 1 \\\\ -3 \\end{pmatrix}$ if $\\mathbf{a} \\cdot \\mathbf{b} = 2.$"
)

if __name__ == "__main__":
    coder = Coder()
    print(coder(QUERY).content)
    for message in coder.state_dict()["agent.memory"]:
        print("*" * 80)
        print(f"{message['sender']}:\n\n{message['content']}")
