"""An agent that follows an example."""

from portico.agent import Agent

agent = Agent(
    "default",
    few_shot=[{"role": "user", "content": "今天天气"}, {"role": "assistant", "content": "【晴】"}],
)

if __name__ == "__main__":
    print(agent("昨天天气"))
