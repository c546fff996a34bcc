"""A plugin that raises an exception that programs do not catch."""

raise KeyboardInterrupt
