"""What a statement may do here: work on this server's own tables, and reach nothing outside of them.

ClickHouse's grants (`access.py`) refuse most of what reads files, runs programs or opens connections. They do not
cover a scalar function that reads a file, INTO OUTFILE, settings that name a file, and a few table functions of chDB.
So every text is parsed by the engine's own parser, which returns the syntax tree without running anything, and the
tree is checked against lists of what is allowed. What the parser cannot describe is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from infra.local.clickhouse.access import ENGINES
from infra.local.clickhouse.engine import Connection
from infra.local.clickhouse.errors import ACCESS_DENIED, BAD_ARGUMENTS, EngineError, refuse
from infra.local.clickhouse.text import quote

_READING = frozenset(
    {"SelectWithUnionQuery", "SelectIntersectExceptQuery", "ShowTablesQuery", "ShowColumnsQuery", "CheckTableQuery"}
)
_STATEMENTS = _READING | {
    *("InsertQuery", "CreateQuery", "AlterQuery", "DropQuery", "DeleteQuery", "UpdateQuery", "RenameQuery"),
    *("OptimizeQuery", "KillQueryQuery", "ExplainQuery", "SetQuery", "UseQuery"),
}
_TABLE_FUNCTIONS = frozenset({"numbers", "numbers_mt", "zeros", "zeros_mt", "generateseries", "generate_series"}) | {
    *("view", "merge"),
}
# `file` reads any file; the others call a service or read a file that a setting names.
_OUTSIDE_FUNCTIONS = frozenset({"file", "catboostevaluate", "showcertificate", "getclienthttpheader"})
_AI_FUNCTION = re.compile(r"(?i)ai[A-Z]\w*|embed\w*")
# Settings that hold text may name a file, an address, a query or another dialect; these are known not to.
_TEXT_SETTINGS = frozenset(
    {
        *("log_comment", "query_cache_tag", "default_format", "count_distinct_implementation", "compatibility"),
        *("network_compression_method", "temporary_files_codec", "insert_deduplication_token"),
        *("ignore_data_skipping_indices", "force_data_skipping_indices", "function_implementation"),
        *("force_optimize_projection_name", "preferred_optimize_projection_name"),
        *("bool_true_representation", "bool_false_representation", "column_names_for_schema_inference"),
        *("format_csv_null_representation", "format_tsv_null_representation", "output_format_pretty_grid_charset"),
        *("format_custom_field_delimiter", "format_custom_row_before_delimiter", "format_custom_row_after_delimiter"),
        *("format_custom_row_between_delimiter", "format_custom_result_before_delimiter"),
        *("format_custom_result_after_delimiter", "format_regexp", "output_format_avro_codec"),
        *("input_format_orc_reader_time_zone_name", "output_format_orc_writer_time_zone_name"),
        *("output_format_sql_insert_table_name", "string_serialization_version", "auto_statistics_types"),
        *("marks_compression_codec", "primary_key_compression_codec", "default_compression_codec"),
    }
)
_TEXT_TYPES = frozenset({"String", "URI", "Map", "Dialect"})
# Expressions in the data of INSERT ... VALUES are run by the engine and are in no syntax tree.
_VALUES_SETTINGS = ("input_format_values_interpret_expressions", "input_format_values_deduce_templates_of_expressions")
_FIXED_SETTINGS = frozenset(_VALUES_SETTINGS)

_NAME = r"(?:[A-Za-z_]\w*|`[^`\\]*`|\"[^\"\\]*\")"
_END = r"\s*(?:FORMAT\s+\w+)?\s*;?\s*"
# Statements that the parser does not describe, in the forms that consist of names alone.
_NAMES_ONLY = re.compile(
    rf"\s*(?:(?:DESCRIBE|DESC)(?:\s+TABLE)?|(?:EXISTS|SHOW\s+CREATE)(?:\s+TEMPORARY)?(?:\s+(?:TABLE|VIEW|DATABASE))?)"
    rf"\s+{_NAME}(?:\.{_NAME})?{_END}|\s*SHOW\s+(?:PROCESSLIST|GRANTS){_END}",
    re.IGNORECASE,
)
_DESCRIBED_SELECT = re.compile(rf"\s*DESC(?:RIBE)?(?:\s+TABLE)?\s*\((.*)\){_END}", re.IGNORECASE | re.DOTALL)
_KEPT_VERDICTS = 512


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of an allowed statement; `is_reading` when it can change nothing."""

    is_reading: bool


class StatementPolicy:
    """Checks statements and settings for one engine; safe to use from many threads."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        with connect() as connection:
            texts = "SELECT name FROM system.{} WHERE type IN ({})"
            kinds = ", ".join(quote(kind) for kind in sorted(_TEXT_TYPES))
            self._text_settings = {
                name
                for table in ("settings", "merge_tree_settings")
                for name in _column(connection, texts.format(table, kinds))
            }
            functions = _column(connection, "SELECT name FROM system.table_functions")
        self._refused_functions = {name.lower() for name in functions} - _TABLE_FUNCTIONS | _OUTSIDE_FUNCTIONS
        self._judge = lru_cache(_KEPT_VERDICTS)(self._parse_and_judge)

    def check(self, text: str) -> Verdict:
        """Return the verdict on one statement, without data. Raises `EngineError` for what is refused or malformed."""
        return self._judge(text)

    def check_settings(self, names: Mapping[str, object]) -> None:
        """Raise `EngineError` for a setting that may name something outside."""
        for name in names:
            if name in _FIXED_SETTINGS or (name in self._text_settings and name not in _TEXT_SETTINGS):
                raise refuse(ACCESS_DENIED, f"Setting {name} cannot be changed on this server")

    def _parse_and_judge(self, text: str) -> Verdict:
        if _NAMES_ONLY.fullmatch(text):
            return Verdict(is_reading=True)
        described = _DESCRIBED_SELECT.fullmatch(text)
        if described:
            return self._parse_and_judge(described[1])
        tree = self._parse(text)
        kind = tree["type"]
        if kind not in _STATEMENTS:
            raise refuse(ACCESS_DENIED, f"Statements of type {kind} are not served here")
        for node in _nodes(tree):
            self._check_node(node)
        explained = tree["query"]["type"] if kind == "ExplainQuery" and "query" in tree else kind
        return Verdict(is_reading=explained in _READING)

    def _parse(self, text: str) -> Any:
        with self._connect() as connection:
            question = f"SELECT parseQueryToJSON({quote(text)})".encode(errors="surrogateescape")
            try:
                return json.loads(connection.query(question, "TabSeparatedRaw").body)
            except EngineError as error:
                if error.code == BAD_ARGUMENTS:
                    raise refuse(ACCESS_DENIED, "Statements of this type are not served here") from None
                raise EngineError(error.code, error.text.replace(f": In scope {question.decode()}", "")) from None

    def _check_node(self, node: Mapping[str, Any]) -> None:
        if node.get("out_file") or node.get("infile"):
            raise refuse(ACCESS_DENIED, "INTO OUTFILE and FROM INFILE are not served here; take the data over HTTP")
        if node.get("attach"):
            raise refuse(ACCESS_DENIED, "ATTACH is not served here")
        kind = node.get("type")
        if kind == "SetQuery":
            changes = {change["name"]: change["value"] for change in node.get("changes", ())}
            self.check_settings({**changes, **dict.fromkeys(node.get("default_settings", ()))})
        name = str(node.get("func_name") or node.get("name") or "")
        is_refused = False
        if kind == "Identifier":
            # A function may be handed to another by its name, as in arrayMap(file, ...).
            is_refused = name.lower() in _OUTSIDE_FUNCTIONS or _AI_FUNCTION.fullmatch(name) is not None
        elif node.get("kind") in ("TABLE_ENGINE", "DATABASE_ENGINE"):
            # An engine without a grant is refused by ClickHouse, but for those that chDB added.
            is_refused = name not in ENGINES
        elif kind in ("Function", "ColumnsApplyTransformer"):
            is_refused = name.lower() in self._refused_functions or _AI_FUNCTION.fullmatch(name) is not None
        if is_refused:
            raise refuse(ACCESS_DENIED, f"{name} reaches outside of this server and is not served here")


def forbid_values_expressions(connection: Connection) -> None:
    """Have the connection refuse expressions in the data of INSERT ... VALUES; literals are read as ever."""
    assignments = ", ".join(f"{name} = 0" for name in _VALUES_SETTINGS)
    connection.query(f"SET {assignments}".encode(), "TabSeparated")


def _column(connection: Connection, query: str) -> list[str]:
    return connection.query(query.encode(), "TabSeparated").body.decode().split()


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
