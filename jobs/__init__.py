"""What `ray job submit --working-dir . -- python jobs/X.py --config c.yaml key=value` runs; each a page."""
