"""A painter: one model turns a wish into a prompt, another one draws it; what was drawn, and why, stays."""

from portico import Client
from portico.flow import flow, llm, pipeline, tool, value

painter = flow(
    pipeline(
        words=llm("default", system="Turn the wish into an English prompt for a painter."),
        picture=tool("draw", prompt=value, model="brush", size="256x128"),
    ),
    name="painter",
    input=str,
)

with Client() as client:
    client.apps.deploy("painter", painter)
    running = client.apps.start("painter", "一只海边的猫")
    [picture] = running.result()["pictures"]
    print(picture["name"], picture["media_type"], f"{picture['width']}x{picture['height']}")
    words = next(step for step in client.runs.trace(running.id) if step.path == "painter.words")
    print("asked for:", words.output)
    print("a picture:", client.artifacts.content(picture["id"]).startswith(b"\x89PNG"))

    answer = client.chat("一只海边的猫", model="painter").read().text
    print("in a chat:", answer.partition("(")[0])
