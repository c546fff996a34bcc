"""The waist of the daemon: servables, contexts, events, the registry, errors, ids. No I/O and no framework."""
