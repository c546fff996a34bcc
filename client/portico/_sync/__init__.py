# Generated from portico._async by scripts/sdk: change it there.
"""`portico.Client` and its groups of calls, by noun."""
