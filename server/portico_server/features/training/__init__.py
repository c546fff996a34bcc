"""Fine-tuning: jobs, their data and recipe, and the training, which runs in a separate process and environment.

May import runs, environments, db and core. The protocols in core provide what fine-tuning needs from models.
"""
