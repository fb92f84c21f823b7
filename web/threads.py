"""How many requests a web process serves at once."""

THREADS = 256
"""Each request has one, also while it waits. They are made when they are needed."""

SEATS = 224
"""How many of them may wait for Tesla in programs' calls; the others go on serving what need not wait."""
