"""Anthropic's Messages API behind OpenAI's chat: requests, answers, streams and errors, in both directions."""
