"""Evergrant as one product on one machine: its command line, and `up`, which runs all of its processes."""
