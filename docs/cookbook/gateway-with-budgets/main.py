"""Two keys over one model: one has forty tokens a day, and sees what is left of them with every answer."""

import os

from openai import OpenAI, RateLimitError

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")


def client(key):
    """A client that has this key, and does not wait when it is refused."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def ask(who, text):
    """The whole answer, with its headers."""
    return who.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": text}]
    )


website, office = client("pk-cookbook-website"), client("pk-cookbook-office")

for _ in range(9):
    try:
        answer = ask(website, "Tell a long story.")
    except RateLimitError as error:
        print("429", error.code)
        print(error.body["message"].partition(" Try")[0])
        print("Retry-After is given:", int(error.response.headers["retry-after"]) > 0)
        break
    left = answer.headers["x-ratelimit-remaining-tokens"]
    print(answer.parse().usage.total_tokens, "tokens;", left, "left today")

print("The other key:", ask(office, "Are you there?").parse().choices[0].message.content)
