"""A small world of captioned moving shapes, and the tiny image models trained on it."""
