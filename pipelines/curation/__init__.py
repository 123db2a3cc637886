"""Captioned clips to a versioned data set of WebDataset shards."""
