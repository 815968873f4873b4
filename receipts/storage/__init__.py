"""Where joined state becomes durable.

`base` is the contract: rows in, rows out, one atomic commit at a time. `memory` and `sqlite` keep it, `codec`
stands between rows and the machine's objects. Nothing here decides anything about receipts.
"""
