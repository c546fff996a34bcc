"""An agent that can answer with one of three characters and nothing else."""

from portico.agent import Agent, Choice

judge = Agent("default", "你的回答只能从“典”、“孝”、“急”三个字中选一个。", output=Choice("典", "孝", "急"))

for said in ("他每天给母亲做饭。", "你怎么还不回我消息！！", "这个故事古书里就有。"):
    print(judge(said, session=said).formatted, said)
