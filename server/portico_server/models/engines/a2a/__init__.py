"""The engine `a2a`: agents elsewhere that speak the Agent2Agent protocol 1.0, as models here.

Source: https://a2a-protocol.org/latest/specification/. It knows nothing of `api/a2a`, which is the other side.
"""
