"""Models and the processes behind them: deployments, replicas, memory, plans, sources, adapters and engines."""
