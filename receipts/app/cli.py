"""The entry of the command `receipts`: as thin as can be, so that it can say what is not installed.

The commands themselves are in `program`.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process."""
    try:
        from .program import run

        status = run()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "receipts", "transports"):
            raise
        sys.exit(f"receipts: {missing} is not installed: pip install 'message-receipts[node]'")
    sys.exit(status)
