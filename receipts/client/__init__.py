"""What an application uses: `connect` gives a device that stays connected and knows its conversations.

`session`, `flight`, `replica`, `outbox`, `reading`, `parts` and `dump` are pure and may be driven by other
machinery; `connection` and `disk` put them on a link and in a file.
"""
