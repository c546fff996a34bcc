"""Anthropic's Messages API as a face: requests into chats, answers back into messages. Imports `openai.relay` and what
every face has.
"""
