"""The process that trains: ``python -m child ORDER`` in the environment `finetune`. It knows nothing else of ours."""
