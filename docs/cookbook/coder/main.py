"""A coder: it solves a problem by writing Python, reads what went wrong, and writes it again."""

from portico.agent import Agent, Executor, Message, ToolParser


class Coder(Agent):
    """Writes code until its answer needs none; the code runs in the sandbox of the daemon."""

    def __init__(self, turns: int = 4) -> None:
        self.writer = Agent(
            "default",
            "Solve the problem with Python, one block of code at a time.",
            output=ToolParser("python", begin="```python\n", end="\n```\n"),
            aggregate="tool_text",
        )
        self.executor = Executor(["python_light"])
        self.turns = turns

    def forward(self, message: Message) -> Message:
        """Code and what it prints, in turns."""
        for _ in range(self.turns):
            message = self.writer(message)
            if message.formatted["tool_type"] is None:
                break
            message = self.executor(message)
        return message


coder = Coder()
coder.reset("projection")
print(coder("Project a onto b = (1, -3), where a·b = 2.", session="projection").content)
for said in Coder().state_dict("projection")["writer.memory"]:
    print(
        f"{said['sender']:>8}:",
        said["content"].strip().splitlines()[-1 if said["sender"] == "executor" else 0],
    )
