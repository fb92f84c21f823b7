"""A stand-in for Tesla over real HTTP, for trying and testing Evergrant offline.

It imports nothing of the product. Start it with ``python -m sandbox``; see `sandbox.app` for what it serves.
"""
