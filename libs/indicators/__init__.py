"""Features and indicators: defined once, computed bar by bar in the stream and over arrays by the same step."""
