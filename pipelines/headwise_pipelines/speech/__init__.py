"""The recogniser's pipeline: from recordings to a registered model."""
