"""A proxy's model list, its fallback and a virtual key, in one file; its callers change the address alone."""

import os

from openai import OpenAI, RateLimitError

from portico import Client

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")
team = OpenAI(base_url=f"{url}/v1", api_key="pk-cookbook-team-a", max_retries=0)

for text in ("When does the harbour open?", "When does it close?", "And on Sunday?"):
    try:
        answer = team.chat.completions.create(model="default", messages=[{"role": "user", "content": text}])
        print(f"{answer.model}: {answer.choices[0].message.content}")
    except RateLimitError as error:
        print("429:", error.body["message"].partition(".")[0])

with Client() as admin:
    runs = [run for run in admin.runs.list() if run.name == "default"]
    print("kept:", len(runs), "runs,", sum(run.usage.completion_tokens for run in runs), "tokens written")
