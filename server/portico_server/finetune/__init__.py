"""Fine-tuning: jobs, their data and recipe, and the training in a separate process and environment.

May import runs, environments, db and core. The protocols in core provide what it needs from models.
"""
