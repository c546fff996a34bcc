"""The Responses API's behaviour: one question to a model or an app with tools of the daemon, kept and taken up again.

Items, tools and events are OpenAI's own shapes; may import `apps.agent`'s pure pieces, `runs`, `db` and `core`.
"""
