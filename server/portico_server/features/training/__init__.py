"""Fine-tuning: jobs, their data and recipe, and the training, which runs in a separate process and environment.

The protocols in core provide what fine-tuning needs from models.
"""
