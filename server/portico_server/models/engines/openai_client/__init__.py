"""Clients of servers with an OpenAI API, shared by all engines: relayed byte by byte, or choice by choice."""
