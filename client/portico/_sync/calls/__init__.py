# Generated from portico._async by scripts/sdk: change it there.
"""The plain methods of the SDK, by noun."""
