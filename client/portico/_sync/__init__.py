# Made from portico/_async by scripts/twin: change it there.
"""`portico.Client` and its groups of calls, by noun."""
