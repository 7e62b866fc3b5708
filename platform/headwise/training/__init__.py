"""Lightning: fit, resume, averaging, selection."""
