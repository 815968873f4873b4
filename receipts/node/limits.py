"""How often: token buckets per user, one per kind of call. PURE: the time is given."""

from __future__ import annotations

from receipts.core.errors import Code, Refused
from receipts.core.policy import Limits

__all__ = ["KINDS", "Bucket", "take"]

KINDS: dict[str, tuple[str, str]] = {
    "sends": ("sends_per_second", "sends_burst"),
    "marks": ("marks_per_second", "marks_burst"),
    "queries": ("queries_per_second", "queries_burst"),
    "changes": ("changes_per_second", "changes_burst"),
    "registrations": ("registrations_per_second", "registrations_burst"),
}
"""Kind of call → names in `Limits` of its rate and its burst. Logins are counted by the minute, apart."""


class Bucket:
    """A token bucket: `burst` calls at once, `rate_ms` per millisecond in the long run."""

    __slots__ = ("at_ms", "burst", "limits", "rate_ms", "tokens")

    def __init__(self, limits: Limits, kind: str, now_ms: int) -> None:
        self.set_limits(limits, kind)
        self.tokens = self.burst
        self.at_ms = now_ms

    def set_limits(self, limits: Limits, kind: str) -> None:
        """From now on by these; the tokens of before are still there."""
        self.limits = limits
        if kind == "logins":
            self.rate_ms, self.burst = limits.logins_per_minute / 60_000, float(limits.logins_burst)
        else:
            rate, burst = KINDS[kind]
            self.rate_ms, self.burst = getattr(limits, rate) / 1000, float(getattr(limits, burst))

    def take(self, now_ms: int) -> int:
        """Take one token.

        Returns:
            0 when it was taken, else after how many milliseconds there will be one.
        """
        rate_ms = self.rate_ms
        tokens = self.tokens + (now_ms - self.at_ms) * rate_ms
        if tokens > self.burst:
            tokens = self.burst
        self.at_ms = now_ms
        if tokens >= 1:
            self.tokens = tokens - 1
            return 0
        self.tokens = tokens
        return max(1, int((1 - tokens) / rate_ms) + 1) if rate_ms > 0 else 60_000


def take(buckets: dict[str, Bucket], kind: str, limits: Limits, now_ms: int) -> None:
    """Count one call.

    Raises:
        Refused: `rate_limited`, with the time to wait.
    """
    bucket = buckets.get(kind)
    if bucket is None:
        bucket = buckets[kind] = Bucket(limits, kind, now_ms)
    elif bucket.limits is not limits:  # the app was configured anew
        bucket.set_limits(limits, kind)
    wait_ms = bucket.take(now_ms)
    if wait_ms:
        reason = f"too many {kind}: wait {wait_ms} ms"
        raise Refused(Code.RATE_LIMITED, reason, retry_after_ms=wait_ms, limit=int(bucket.burst))
