"""The query language: one grammar for queries, target conditions and routes."""

from edgekit_sim.iothub.query.evaluate import (
    UNDEFINED,
    compile_condition,
    compile_operand,
    names_read,
    run,
)
from edgekit_sim.iothub.query.syntax import (
    Node,
    Path,
    Query,
    parse_condition,
    parse_query,
    parse_route,
)

__all__ = [
    "UNDEFINED",
    "Node",
    "Path",
    "Query",
    "compile_condition",
    "compile_operand",
    "names_read",
    "parse_condition",
    "parse_query",
    "parse_route",
    "run",
]
