"""The query language: one grammar for queries and for target conditions."""

from edgekit_sim.iothub.query.evaluate import compile_condition, names_read, run
from edgekit_sim.iothub.query.syntax import Query, parse_condition, parse_query

__all__ = ["Query", "compile_condition", "names_read", "parse_condition", "parse_query", "run"]
