"""The model registry (MLflow): publishing a version, moving aliases, loading and verifying a version."""
