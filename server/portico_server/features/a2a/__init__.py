"""The Agent2Agent protocol, version 1.0: other agents send tasks to apps and models over JSON-RPC and HTTP+JSON.

Source: https://a2a-protocol.org/latest/specification/.
"""
