"""The embedded platform: servers of one machine that stand in for the real ones."""
