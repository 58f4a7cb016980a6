"""The rights of everyone who queries: this server's own databases, and no source of data outside of them.

They are ClickHouse's own grants, read by the engine when it opens. What is not granted is refused by the engine
itself, wherever in a statement it stands: users and their rights, functions and dictionaries, SYSTEM, BACKUP, files,
addresses, other databases.
"""

from __future__ import annotations

import os
from pathlib import Path

# One database of its own: chDB's `default` also shows the files of the folder as tables.
HOME_DATABASE = "perpflow"
ENGINES = (
    *("MergeTree", "ReplacingMergeTree", "SummingMergeTree", "AggregatingMergeTree", "CollapsingMergeTree"),
    *("VersionedCollapsingMergeTree", "CoalescingMergeTree", "GraphiteMergeTree"),
    *("Memory", "Log", "TinyLog", "StripeLog", "Null", "Set", "Join", "Merge", "View", "MaterializedView", "Atomic"),
)
_RIGHTS = (
    *("SHOW", "SELECT", "INSERT", "ALTER TABLE", "ALTER VIEW", "CREATE DATABASE", "CREATE TABLE", "CREATE VIEW"),
    *("CREATE TEMPORARY TABLE", "CREATE ARBITRARY TEMPORARY TABLE", "CREATE TEMPORARY VIEW"),
    *("DROP DATABASE", "DROP TABLE", "DROP VIEW", "TRUNCATE", "OPTIMIZE", "KILL QUERY", "CHECK"),
)
_REVOKED = ("ALTER FREEZE PARTITION", "ALTER FETCH PARTITION", "ALTER MOVE PARTITION", "ALTER MATERIALIZE TTL")


def write_access_rules(folder: Path) -> Path:
    """Write the engine's configuration with the rights, readable by this user alone; return its path."""
    users = folder / "perpflow-access.xml"
    config = folder / "perpflow-server.xml"
    grants = [f"GRANT {', '.join(_RIGHTS)} ON *.*", *(f"GRANT TABLE ENGINE ON {name}" for name in ENGINES)]
    rules = "".join(f"<query>{line}</query>" for line in (*grants, f"REVOKE {', '.join(_REVOKED)} ON *.*"))
    _write(
        users,
        # A record that was written twice counts once, whoever asks: its two rows are always in one partition.
        "<clickhouse><profiles><default><final>1</final>"
        "<do_not_merge_across_partitions_select_final>1</do_not_merge_across_partitions_select_final>"
        "</default></profiles><quotas><default/></quotas><users><default>"
        "<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants>{rules}</grants></default></users></clickhouse>",
    )
    _write(
        config,
        f"<clickhouse><users_config>{users}</users_config><access_control_improvements>"
        "<table_engines_require_grant>true</table_engines_require_grant>"
        "</access_control_improvements></clickhouse>",
    )
    return config


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(text)
    draft.replace(path)
