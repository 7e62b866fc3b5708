"""The recommender's pipeline: from events to a registered model."""
