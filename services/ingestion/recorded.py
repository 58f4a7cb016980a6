"""Plays a recording as a source: paced, and resumed exactly behind what was published."""

from __future__ import annotations

from pathlib import Path

from libs.runtime.errors import BadInput
from services.ingestion.feed import Feed, FeedSource, Pacer, decode_cursor
from services.ingestion.recordings import Recording


class RecordedSource(FeedSource):
    """An `EventSource` over a `Recording`, which gives the same events at any speed."""

    def __init__(
        self,
        path: Path,
        *,
        instrument: str,
        pacer: Pacer,
        span_ns: int = 0,
        history: Path | None = None,
        history_bars: int = 1500,
    ) -> None:
        self._recording = Recording(path, instrument=instrument, history=history, history_bars=history_bars)
        self._pacer = pacer
        self._span_ns = span_ns
        super().__init__("recorded:" + ",".join(file.name for file in self._recording.files))

    def open(self, cursor: bytes | None) -> None:
        """Start, or resume exactly behind what the cursor covers. Raises `BadInput` where the files do not fit."""
        stream, history = self._recording.open(self._span_ns)
        if cursor is None:
            self._feed = Feed(stream, history, self._recording.items(), self._pacer)
            return
        kept = decode_cursor(cursor)
        if kept.origin != self._origin:
            raise BadInput(
                f"this session was reading {kept.origin}, not {self._origin}; start a new session for other files"
            )
        self._feed = Feed(stream, history, self._recording.items(kept.file, kept.line, kept.clock), self._pacer)
        self._feed.resume(kept)
