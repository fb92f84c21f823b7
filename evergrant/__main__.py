"""``python -m evergrant``."""

from evergrant.cli import main

main()
