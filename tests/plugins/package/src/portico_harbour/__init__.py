"""One plugin of each kind, as small as it can be."""
