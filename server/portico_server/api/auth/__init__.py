"""Who may call: API keys, tokens of issuers, sign-ins in browsers and client secrets.

Every protocol adapter gets its callers from here. Imports no framework.
"""
