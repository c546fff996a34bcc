"""The engine `a2a`, which serves remote agents with the Agent2Agent protocol 1.0 as models.

Source: https://a2a-protocol.org/latest/specification/. It is independent of `api/a2a`, which implements the server
side of the protocol.
"""
