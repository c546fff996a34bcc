"""Anthropic's Messages API as a protocol adapter: requests into chats, answers back into messages. Imports
`openai.relay` and what every protocol adapter has.
"""
