# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""The plain methods of the SDK, by noun."""
