"""The themes of a store, the names that its passages mention, and how these are related, without a language model."""
