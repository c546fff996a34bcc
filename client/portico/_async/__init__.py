"""`portico.AsyncClient` and its groups of calls, one for each noun. ``scripts/sdk`` generates `calls` and
`portico._sync`.
"""
