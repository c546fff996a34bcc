"""OpenAI's API of moderations."""
