"""The training process: ``python -m child ORDER`` in the environment `finetune`. It imports no other part of
Portico.
"""
