"""Engines that run in environments of their own: vLLM, LMDeploy and transformers, and servers that plugins start."""
