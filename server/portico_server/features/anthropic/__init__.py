"""Anthropic's Messages API as a protocol adapter: it translates requests into chats and answers into messages."""
