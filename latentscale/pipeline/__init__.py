"""The pipeline: a loop over the stages, with what it observes and records."""
