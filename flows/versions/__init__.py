"""Router versions: stored, loaded, in agreement with MLflow, and where they came from."""
