"""Clients for servers with an OpenAI-compatible API, shared by all engines. Responses are relayed byte by byte, or
choice by choice.
"""
