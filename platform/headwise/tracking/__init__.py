"""MLflow: runs, datasets, figures, the registry."""
