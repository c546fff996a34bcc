"""One agent looks numbers up on the web, another one draws them; whoever has the final answer ends the work."""

import json

from portico.agent import Agent, Executor, Message, ToolParser

TEMPLATE = (
    "You are a helpful AI assistant, collaborating with other assistants. Use the provided tools to progress"
    " towards answering the question. If you are unable to fully answer, that's OK, another assistant with"
    " different tools will help where you left off. Execute what you can to make progress. If you or any of"
    " the other assistants have the final answer or deliverable, prefix your response with {finish}"
    " so the team knows to stop. You have access to the following tools:\n{tools}\nPlease provide"
    " your thought process when you need to use a tool, followed by the call statement in this format:"
    "\n{call}\n**{task}**"
)


class DataVisualizer(Agent):
    """Finds data on the web and draws it."""

    def __init__(self, model="default", finish="Final Answer", max_turn=10):
        self.researcher = Agent(
            model,
            TEMPLATE,
            variables={
                "finish": finish,
                "tools": "web_search(query), web_fetch(url)",
                "call": '```json\n{"name": tool name, "parameters": keyword arguments}\n```\n',
                "task": "You should provide accurate data for the chart generator to use.",
            },
            output=ToolParser("browser", begin="```json\n", end="\n```\n", validate=json.loads),
            aggregate="tool_text",
        )
        self.charter = Agent(
            model,
            TEMPLATE,
            variables={
                "finish": finish,
                "tools": "interpreter(code)",
                "call": "```python\ncode\n```\n",
                "task": "Any charts you display will be visible by the user.",
            },
            output=ToolParser("interpreter", begin="```python\n", end="\n```\n"),
            aggregate="tool_text",
        )
        self.executor = Executor(["code_interpreter", "web_search", "web_fetch"])
        self.finish, self.max_turn = finish, max_turn

    def forward(self, message: Message) -> Message:
        for _ in range(self.max_turn):
            for agent in (self.researcher, self.charter):
                message = agent(message)
                for _ in range(self.max_turn):
                    if not message.formatted["tool_type"]:
                        break
                    message = agent(self.executor(message))
                if self.finish in message.content:
                    return message
        return message


QUERY = (
    "Fetch the China's GDP over the past 5 years, then draw a line graph of it. Once you code it up, finish."
)

if __name__ == "__main__":
    visualizer = DataVisualizer()
    print(visualizer(QUERY).content)
    with open("visualizer.json", "w") as file:
        json.dump(visualizer.state_dict(), file, ensure_ascii=False, indent=4)
