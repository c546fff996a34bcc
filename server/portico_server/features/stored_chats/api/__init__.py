"""OpenAI's API of stored chat completions."""
