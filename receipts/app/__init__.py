"""The composition root: the command line, its configuration, and what an operator watches.

Here the parts meet: stores, the node, transports, the client. No other package imports this one.
"""
