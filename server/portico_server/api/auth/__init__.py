"""Authentication: API keys, issuer tokens, browser sign-ins and client secrets.

Every protocol adapter gets its callers from this package. It imports no framework.
"""
