"""HTTP APIs of fine-tuning."""
