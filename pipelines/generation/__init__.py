"""Checkpoint and requests to videos."""
