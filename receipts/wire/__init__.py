"""The native protocol: what is said on a link (`commands`, `updates`) and how it is written (`codec`).

Pure: no clock, no chance, no I/O. Frames are whole; cutting a stream of bytes into them is the transports'
business. Who may say what, and when, is the node's. The protocol is described in docs/protocol.md.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = 1
"""Of the native protocol; `Hello.version` carries it. It grows only when an old peer could not follow:
new fields and new frames do not need it, since both are ignored by who does not know them."""
