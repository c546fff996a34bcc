"""A model as an agent that gives one of three answers, its memory, and a class of agents with a forward."""

from portico.agent import Agent, Choice, Message, hooks

judge = Agent(
    "default", "你的回答只能从典、孝、急三个字中选一个。", name="judge", output=Choice("典", "孝", "急")
)
answer = judge("今天天气情况")
print(answer.sender, answer.content, answer.formatted)
print([(message.sender, message.content) for message in judge.memory()])


class Blogger(Agent):
    """Writes, hears a critique, and writes again."""

    def __init__(self) -> None:
        self.writer = Agent("default", "Write a post. Given a critique, revise it.")
        self.critic = Agent(
            "default", "Criticise.", hooks=[hooks.Prefix("Provide a critique on this: ", ["writer"])]
        )

    def forward(self, message: Message) -> Message:
        """The order in which they speak."""
        return self.writer(self.critic(self.writer(message)))


blogger = Blogger()
print(blogger("A post about harbours", session="spring").content)
state = blogger.state_dict("spring")
print({name: len(messages) for name, messages in state.items() if name.endswith("memory")})
blogger.reset("spring")
print("after reset:", len(blogger.memory("spring")))
