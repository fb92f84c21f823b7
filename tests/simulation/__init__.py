"""The refresh protocol under a deterministic scheduler: `python -m tests.simulation`.

The product's own `Refresher`, sweep, consent functions, escrow and lock run here against a real SQLite table.
Only what surrounds them is made here: time (`world`), Tesla (`tesla`), Redis and the breaker in it (`hints`).
At each named step of the protocol the scheduler decides who goes on, who is killed or stopped and what breaks
(`weather`); `promises` looks at Tesla's records and at the table after every step.
"""
