"""OpenAI's API of containers."""
