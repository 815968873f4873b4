"""`python -m receipts.app`: the command `receipts` where it is not on the path."""

from .cli import main

main()
