"""The training process: ``python -m child ORDER`` in the environment ``finetune``. It imports nothing else from
Portico.
"""
