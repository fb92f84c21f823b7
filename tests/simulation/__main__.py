"""`python -m tests.simulation`: many schedules, on all cores; exits with 1 when a promise broke."""

import sys

from tests.simulation.run import main

# What the other processes are to find is in a module of its own: they don't load this one.
if __name__ == "__main__":
    sys.exit(main())
