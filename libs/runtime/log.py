"""Structured logs on stderr, as console lines or JSON; every line names its service, and secrets are masked."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_KEY = re.compile(r"(secret|token|password|passwd|api_?key|signature|listen_?key|authorization)", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"((?:secret|token|password|api_?key|signature|listenKey)=)([^&\s\"']+)|(://[^/\s:@]+:)([^@\s/]+)(@)", re.IGNORECASE
)
MASK = "***"


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace values whose name says that they are secret, and secrets inside URLs and query strings."""
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = mask_text(value)
    return event


def mask_text(text: str) -> str:
    """Mask secrets inside a URL, a query string or an error's text."""
    return _SECRET_TEXT.sub(
        lambda found: f"{found[1]}{MASK}" if found[1] else f"{found[3]}{MASK}{found[5]}",
        text,
    )


def configure_logging(service: str, log_format: str = "console", level: str = "info") -> structlog.stdlib.BoundLogger:
    """Set up this process's logs and return a logger bound to the service."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    return logger
