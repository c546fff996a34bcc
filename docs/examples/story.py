"""A story writer: an outline, its chapters at once, and the whole."""

from typing import TypedDict

from portico import Client
from portico.flow import bind, llm, output, pipeline, warp


class Section(TypedDict):
    title: str
    describe: str


TOC = """你现在是一个智能助手。你的任务是理解用户的输入，将大纲以列表嵌套字典的列表。每个字典包含一个 `title` 和 `describe`，其中 `title` 中需要用Markdown格式标清层级，`describe` 是对该段的描述和写作指导。

输出示例:
[
    {"title": "# 一级标题", "describe": "请详细描述此标题的内容，提供背景信息和核心观点。"},
    {"title": "## 二级标题", "describe": "请详细描述标题的内容，提供具体的细节和例子来支持一级标题的观点。"}
]
"""

WRITE = "你现在是一个智能助手。你的任务是接收一个标题和一段描述，并根据描述中的指导展开写作。"

story = pipeline(
    outline=llm("default", system=TOC, format=list[Section]),
    chapters=warp(llm("default", system=WRITE, user="{title}\n{describe}")),
    book=bind(
        lambda *stories, outlines: "\n".join(f"{o['title']}\n{s}" for s, o in zip(stories, outlines)),
        outlines=output("outline"),
    ),
)

if __name__ == "__main__":
    client = Client()
    print(client.run(story, "A handbook of bread"))
    client.apps.deploy("story", story)
