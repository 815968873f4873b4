"""The vendor's Web SDK speaks with our node: its frames (`codec`), message bodies (`bodies`), error texts
(`refusals`) and the dialect of one link (`session`). PURE but for the HTTP face, which is a room of its own.

A session of the SDK is a device that keeps nothing itself (`receipts.node.queues`): it gets the same messages
and receipts as every other session, in frames of its own shape.
"""
