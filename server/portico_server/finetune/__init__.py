"""Fine-tuning: jobs, their data and recipe, and the training that runs in a process and an environment of its own.

May import runs, environments, db and core. What it needs of models comes through the protocols in core.
"""
