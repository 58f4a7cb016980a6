"""Structured logs on stderr, as console lines or JSON; every line names its service, and secrets are masked.

What is not logged but lands on stderr all the same (a library's own logger, a warning, the traceback of a thread that
died) passes the same masks.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO, cast

import structlog

from libs.runtime.masking import MASK, MaskingStream, mask_text, mask_value

__all__ = ["MASK", "configure_logging", "log_uncaught_errors", "mask_secrets", "mask_text"]


def mask_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask every field of a log line, by name and by value, however deep it is nested."""
    for key, value in event.items():
        event[key] = mask_value(value, key)
    return event


class _LibraryLog(logging.Handler):
    """Hands a library's log record to ours."""

    def __init__(self, logger: structlog.stdlib.BoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        exception = record.exc_info if record.exc_info and record.exc_info[0] else None
        self._logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=exception)


def configure_logging(service: str, log_format: str = "console", level: str = "info") -> structlog.stdlib.BoundLogger:
    """Set up this process's logs and return a logger bound to the service."""
    if not isinstance(sys.stderr, MaskingStream):
        sys.stderr = cast(TextIO, MaskingStream(sys.stderr))
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
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, sys.stderr)),
        cache_logger_on_first_use=False,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger().bind(service=service)
    logging.basicConfig(handlers=[_LibraryLog(logger)], level=logging.WARNING, force=True)
    return logger


def log_uncaught_errors(logger: structlog.stdlib.BoundLogger) -> None:
    """Log what ends this process, or one of its threads, instead of letting Python print it."""

    def on_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        logger.critical("uncaught error", exc_info=(kind, error, trace))

    def on_thread_error(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None and given.exc_type is not SystemExit:
            name = None if given.thread is None else given.thread.name
            logger.critical(
                "uncaught error", thread=name, exc_info=(given.exc_type, given.exc_value, given.exc_traceback)
            )

    sys.excepthook = on_error
    threading.excepthook = on_thread_error
