"""A writer and a critic improve a post in turns; three posts at once, each in a session of its own."""

import asyncio

from portico.agent import Agent, Message, hooks


class Blogger(Agent):
    """Writes, hears a critique, and writes again."""

    def __init__(self, rounds: int = 2) -> None:
        self.writer = Agent("default", "Write a post. Given a critique, revise your post.")
        self.critic = Agent(
            "default", "Criticise what is written.", hooks=[hooks.Prefix("Criticise this post: ", ["writer"])]
        )
        self.rounds = rounds

    async def forward(self, message: Message) -> Message:
        """The order in which they speak."""
        for _ in range(self.rounds):
            message = await self.writer.acall(message)
            message = await self.critic.acall(message)
        return await self.writer.acall(message)


async def posts(topics: list[str]) -> list[Message]:
    """All of them at once."""
    blogger = Blogger()
    return await asyncio.gather(*(blogger.acall(f"A post about {topic}.", session=topic) for topic in topics))


TOPICS = ["fishing", "bread", "whaling"]
for topic in TOPICS:
    Blogger().reset(topic)
for post in asyncio.run(posts(TOPICS)):
    print(post.content)

later = Blogger()  # another object, or another program: the sessions are in the daemon
for said in later.state_dict("bread")["critic.memory"]:
    print(f"{said['sender']}: {said['content']}")
