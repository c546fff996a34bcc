"""What looks at texts on their way in and out: detectors without a model, and guards. Imports the core alone."""
