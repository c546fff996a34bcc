"""An agent that can say nothing but one of three characters: the model is held to them while it writes."""

from portico.agent import Agent, Choice

agent = Agent("default", "你的回答只能从“典”、“孝”、“急”三个字中选一个。", output=Choice("典", "孝", "急"))

if __name__ == "__main__":
    print(agent("今天天气情况"))
