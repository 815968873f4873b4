"""The pure state machine of one conversation. No clock, no chance, no I/O, no logging, no async.

Read `events` for what can happen, `conversation` for what it does, `decide` for who judges, `policy` for
what can be set, `explain` for why a count is what it is.
"""
