"""Where processes run: engines and trainings are started by a launcher. May import ``core`` only."""
