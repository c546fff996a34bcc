"""Authentication: API keys, issuer tokens, browser sign-ins and client secrets.

This package gives every protocol adapter its callers. It imports no framework.
"""
