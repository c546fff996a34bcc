"""A writer and a critic improve a blog post in three rounds; five posts at once, each in a session of its own."""

import asyncio

from portico.agent import Agent, Message, hooks


class Blogger(Agent):
    """Writes blog posts and improves them by criticism."""

    def __init__(self, model="default", max_turn=3):
        self.writer = Agent(
            model,
            "You are an writing assistant tasked to write engaging blogpost. You try to generate the best blogpost "
            "possible for the user's request. If the user provides critique, then respond with a revised version of "
            "your previous attempts",
        )
        self.critic = Agent(
            model,
            "Generate critique and recommendations on the writing. Provide detailed recommendations, including "
            "requests for length, depth, style, etc..",
            hooks=[hooks.Prefix("Reflect and provide critique on the following writing. \n\n", ["writer"])],
        )
        self.max_turn = max_turn

    async def forward(self, message: Message) -> Message:
        for _ in range(self.max_turn):
            message = await self.writer.acall(message)
            message = await self.critic.acall(message)
        return await self.writer.acall(message)


PROMPT = (
    "Write an engaging blogpost on the recent updates in {topic}. "
    "The blogpost should be engaging and understandable for general audience. "
    "Should have more than 3 paragraphes but no longer than 1000 words."
)
TOPICS = ["AI", "Biotechnology", "New Energy", "Video Games", "Pop Music"]


async def main(blogger: Blogger) -> list[Message]:
    """All posts, each in a session of its own."""
    calls = [blogger.acall(PROMPT.format(topic=topic), session=i) for i, topic in enumerate(TOPICS)]
    return await asyncio.gather(*calls)


if __name__ == "__main__":
    blogger = Blogger()
    print(asyncio.run(main(blogger))[0].content)
    for name in ("writer.memory", "critic.memory"):
        print("-" * 120)
        for message in blogger.state_dict(session=0)[name]:
            print("*" * 80)
            print(f"{message['sender']}:\n\n{message['content']}")
