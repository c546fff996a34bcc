"""The behaviour of the Responses API: a request to a model or an app, with the daemon's tools, stored and resumable.

Items, tools and events have OpenAI's formats.
"""
