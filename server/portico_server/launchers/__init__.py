"""Launchers, which start engines and trainings on machines. May import only ``core``."""
