"""A robot that finds out what is wanted: it talks, draws, reads aloud, or writes down what was said."""

from portico import Client
from portico.flow import flow, intent, llm, pipeline, switch, tool, value

SKILLS = {
    "talk": {"description": "small talk and questions", "examples": ["How are you?"]},
    "draw": {"description": "a picture is wanted", "examples": ["Paint me a ship."]},
    "read aloud": {"description": "a text shall be heard", "examples": ["Say: good night."]},
    "write down": {"description": "the id of a recording", "examples": ["art_0123"]},
}

robot = flow(
    switch(
        {
            "talk": llm("default", system="You are a friendly robot.", history=True),
            "draw": pipeline(
                llm("default", system="Write a prompt for a painter."),
                tool("draw", prompt=value, model="brush"),
            ),
            "read aloud": tool("speak", text=value, model="voice"),
            "write down": tool("transcribe", file=value, model="ear"),
        },
        on=intent(SKILLS, history=True, default="talk"),
    ),
    name="robot",
)

SHOWN = {
    "talk": lambda said: said,
    "draw": lambda made: made["pictures"][0]["name"],
    "read aloud": lambda made: made["artifact"]["name"],
    "write down": lambda made: made["text"],
}

with Client() as client:
    client.apps.deploy("robot", robot)
    wishes = ["Good morning!", "Draw the harbour.", "Say: The ferry leaves at nine."]
    for wish in wishes:
        running = client.apps.start("robot", wish)
        made = running.result()
        skill = next(step.output for step in client.runs.trace(running.id) if step.kind == "intent")
        print(f"{skill}: {SHOWN[skill](made)}")
        if skill == "read aloud":
            wishes.append(made["artifact"]["id"])  # what it said, for it to write down
