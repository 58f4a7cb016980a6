"""Puts every topic into ClickHouse, each record exactly once."""
