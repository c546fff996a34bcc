"""Anthropic's Messages API as a protocol adapter: it translates requests into chats and answers into messages.

This package imports `openai.relay` and the modules that every protocol adapter imports.
"""
