"""What Evergrant costs, measured side by side with what it is compared with: `make bench`.

Shares of work are counted as CPU time of all processes together, from /proc, because a busy machine stretches
seconds and leaves CPU time nearly as it is. Tesla's stand-in counts for nothing.
"""
