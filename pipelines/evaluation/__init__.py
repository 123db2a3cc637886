"""Videos to automatic metrics and to the pairwise human study."""
