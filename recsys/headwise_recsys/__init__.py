"""The next-item recommender."""
