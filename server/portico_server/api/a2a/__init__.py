"""The Agent2Agent protocol, 1.0: other agents give tasks to our apps and models. JSON-RPC and HTTP+JSON.

Source: https://a2a-protocol.org/latest/specification/.
"""
