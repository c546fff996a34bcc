"""The engine `vllm`: vLLM's own server in a separate environment."""
