"""Orchestration: knows Ray, DeepSpeed, MLflow and the catalog; the model itself is in stunet."""
