"""A local ClickHouse: chDB behind the HTTP interface of a ClickHouse server, for one machine without containers."""
