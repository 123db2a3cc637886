"""Data set to checkpoints."""
