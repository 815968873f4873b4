"""Logs: everything that this process has to say goes to stderr, one line each, as text or JSON."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

__all__ = ["set_up"]


def set_up(log_format: str, *, level: int = logging.INFO) -> None:
    """Send the logs of all libraries to stderr.

    Args:
        log_format: `text` for people (in colour on a terminal), `json` for machines: an object per line with
            `timestamp`, `level`, `logger` and `event` first.
    """
    stamps: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format == "json":
        # Without local variables: they hold what people write, and passwords.
        plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        last += [structlog.processors.ExceptionRenderer(plain), structlog.processors.JSONRenderer()]
    else:
        last.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=stamps, processors=last))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("websockets").setLevel(max(level, logging.WARNING))  # else a line per connection
    structlog.configure(
        processors=[*stamps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
