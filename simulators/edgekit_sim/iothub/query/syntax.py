"""The query language's tree, and the parser that makes it.

```
query     = SELECT [TOP n] columns FROM source [WHERE condition]
            [GROUP BY path {, path}] [ORDER BY path [ASC|DESC] {, ...}]
columns   = * | column {, column}          column = operand [[AS] name]
source    = devices | devices.modules | devices.jobs
condition = all {OR all}                   all = part {AND part}
part      = NOT part | operand [comparison operand | [NOT] IN "[" operand {, operand} "]"
            | NIN "[" ... "]" | IS [NOT] (DEFINED | NULL)]
operand   = term {(+ | -) term}            term = factor {(* | / | %) factor}
factor    = literal | name "(" [operands] ")" | path | "(" condition ")" | - factor
path      = name {"." name | "." "[[" any "]]" | "[" number "]"}
```

A target condition is a `condition` alone, or for modules `FROM devices.modules WHERE condition`.
The condition of a route is one, too, whose paths begin with `$body`, `$twin`, a system property
(`$contentType` ...) or are the name of an application property.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from edgekit_sim.iothub.errors import HubFault

SOURCES = ("devices", "devices.modules", "devices.jobs")
AGGREGATES = ("count", "sum", "avg", "min", "max")
MAX_DEPTH = 64  # of brackets and NOTs: deeper ones are an attack, not a query


@dataclass(frozen=True)
class Literal:
    """A string, number, boolean or null."""

    value: Any


@dataclass(frozen=True)
class Path:
    """A property by its names; an integer indexes an array."""

    steps: tuple[str | int, ...]


@dataclass(frozen=True)
class Call:
    """A function or aggregate with its arguments."""

    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True)
class Operation:
    """An operator (`and`, `or`, `not`, `=`, `in`, `+` ...) with its operands."""

    operator: str
    operands: tuple["Node", ...]


Node = Literal | Path | Call | Operation


@dataclass(frozen=True)
class Column:
    """One column of the answer."""

    operand: Node
    name: str


@dataclass(frozen=True)
class Query:
    """A whole query; no columns means all of each document."""

    source: str
    columns: tuple[Column, ...] = ()
    where: Node | None = None
    group_by: tuple[Path, ...] = ()
    order_by: tuple[tuple[Path, bool], ...] = field(default=())  # path, descending
    top: int | None = None


_TOKENS = r"""\s*(?:
    (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
  | (?P<bracketed>\[\[.*?\]\])
  | (?P<name>[A-Za-z_$][\w$NAMES]*)
  | (?P<symbol><>|!=|<=|>=|[=<>()\[\],.*+\-/%])
  | (?P<end>$)
    )"""
_TOKEN = re.compile(_TOKENS.replace("NAMES", ""), re.VERBOSE)
_TOKEN_OF_ROUTE = re.compile(_TOKENS.replace("NAMES", "-"), re.VERBOSE)
_COMPARISONS = {"=": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_LITERALS = {"true": True, "false": False, "null": None}


def parse_query(text: str) -> Query:
    """Parse a query.

    Raises:
        HubFault: 400, saying at which character what was expected.
    """
    return _Parser(text).query()


def parse_condition(text: str) -> tuple[str, Node | None]:
    """Parse a target condition: which source it is over, and the condition; `*` is all.

    Raises:
        HubFault: 400, as `parse_query`.
    """
    return _Parser(text).target_condition()


def parse_route(text: str) -> Node:
    """Parse the condition of a route over messages; names in it may have hyphens.

    Raises:
        HubFault: 400, as `parse_query`.
    """
    return _Parser(text, _TOKEN_OF_ROUTE).route_condition()


class _Parser:
    def __init__(self, text: str, token: re.Pattern[str] = _TOKEN) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []  # kind, text, position
        self._next = 0
        self._depth = 0
        position = 0
        while True:
            match = token.match(text, position)
            if match is None:
                self._refuse(position, f"unexpected {text[position:].strip()[:20]!r}")
            kind = match.lastgroup or ""
            self._tokens.append((kind, match.group(kind), match.start(kind)))
            if kind == "end":
                return
            position = match.end()

    def _refuse(self, position: int, problem: str) -> NoReturn:
        raise HubFault(400, "QueryInvalid", f"query, character {position + 1}: {problem}")

    def _expect(self, *symbols: str) -> str:
        found = self._accept(*symbols)
        if found is None:
            _, text, position = self._tokens[self._next]
            self._refuse(position, f"expected {' or '.join(symbols)}, found {text or 'the end'!r}")
        return found

    def _accept(self, *symbols: str) -> str | None:
        """Take the next token if it is one of the symbols or keywords."""
        kind, text, _ = self._tokens[self._next]
        lowered = text.lower()
        if kind in ("symbol", "name") and lowered in symbols:
            self._next += 1
            return lowered
        return None

    def _take(self, kind: str, what: str) -> str:
        found, text, position = self._tokens[self._next]
        if found != kind:
            self._refuse(position, f"expected {what}, found {text or 'the end'!r}")
        self._next += 1
        return text

    def _end(self) -> None:
        kind, text, position = self._tokens[self._next]
        if kind != "end":
            self._refuse(position, f"unexpected {text!r}")

    def query(self) -> Query:
        self._expect("select")
        top = self._top()
        columns = self._columns()
        self._expect("from")
        source = self._source()
        where = self._condition() if self._accept("where") else None
        group: list[Path] = []
        if self._accept("group"):
            self._expect("by")
            group.append(self._path())
            while self._accept(","):
                group.append(self._path())
        order: list[tuple[Path, bool]] = []
        if self._accept("order"):
            self._expect("by")
            order.append(self._order())
            while self._accept(","):
                order.append(self._order())
        self._end()
        return Query(source, columns, where, tuple(group), tuple(order), top)

    def target_condition(self) -> tuple[str, Node | None]:
        source = "devices"
        if self._accept("from"):
            source = self._source()
            self._expect("where")
        if self._accept("*"):
            self._end()
            return source, None
        condition = self._condition()
        self._end()
        return source, condition

    def route_condition(self) -> Node:
        condition = self._condition()
        self._end()
        return condition

    def _top(self) -> int | None:
        if not self._accept("top"):
            return None
        bracket = self._accept("(")
        number = int(float(self._take("number", "a number")))
        if bracket:
            self._expect(")")
        return number

    def _columns(self) -> tuple[Column, ...]:
        if self._accept("*"):
            return ()
        columns = [self._column()]
        while self._accept(","):
            columns.append(self._column())
        return tuple(columns)

    def _column(self) -> Column:
        operand = self._operand()
        named = self._accept("as")
        kind, text, _ = self._tokens[self._next]
        if named or (kind == "name" and text.lower() != "from"):
            return Column(operand, self._take("name", "a name"))
        if isinstance(operand, Path):
            return Column(operand, str(operand.steps[-1]))
        return Column(operand, operand.name.lower() if isinstance(operand, Call) else "value")

    def _source(self) -> str:
        path = self._path()
        source = ".".join(str(step) for step in path.steps).lower()
        if source not in SOURCES:
            self._refuse(self._tokens[self._next - 1][2], f"nothing is called {source!r} here")
        return source

    def _order(self) -> tuple[Path, bool]:
        path = self._path()
        return path, self._accept("asc", "desc") == "desc"

    def _condition(self) -> Node:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else Operation("or", tuple(parts))

    def _all(self) -> Node:
        parts = [self._part()]
        while self._accept("and"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else Operation("and", tuple(parts))

    def _part(self) -> Node:
        if self._accept("not"):
            self._deeper()
            part = Operation("not", (self._part(),))
            self._depth -= 1
            return part
        left = self._operand()
        operator = self._accept(*_COMPARISONS, "in", "nin", "not", "is")
        if operator is None:
            return left
        if operator in _COMPARISONS:
            return Operation(_COMPARISONS[operator], (left, self._operand()))
        if operator == "is":
            negated = self._accept("not")
            call = Call("is_" + self._expect("defined", "null"), (left,))
            return Operation("not", (call,)) if negated else call
        if operator == "not":
            self._expect("in")
        inside = Operation("in", (left, *self._list()))
        return inside if operator == "in" else Operation("not", (inside,))

    def _list(self) -> list[Node]:
        closing = "]" if self._expect("[", "(") == "[" else ")"
        items = [self._operand()]
        while self._accept(","):
            items.append(self._operand())
        self._expect(closing)
        return items

    def _operand(self) -> Node:
        left = self._term()
        while operator := self._accept("+", "-"):
            left = Operation(operator, (left, self._term()))
        return left

    def _term(self) -> Node:
        left = self._factor()
        while operator := self._accept("*", "/", "%"):
            left = Operation(operator, (left, self._factor()))
        return left

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._refuse(self._tokens[self._next][2], f"nested deeper than {MAX_DEPTH}")

    def _factor(self) -> Node:  # noqa: RET503  `_refuse` does not return
        kind, text, position = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            return Literal(float(text) if re.search(r"[.eE]", text) else int(text))
        if kind == "string":
            self._next += 1
            return Literal(_unquote(text))
        if kind == "name":
            return self._name(text)
        self._deeper()
        try:
            if self._accept("-"):
                return Operation("-", (Literal(0), self._factor()))
            if self._accept("("):
                inner = self._condition()
                self._expect(")")
                return inner
        finally:
            self._depth -= 1
        self._refuse(position, f"expected a property or a value, found {text or 'the end'!r}")

    def _name(self, text: str) -> Node:
        if text.lower() in _LITERALS:
            self._next += 1
            return Literal(_LITERALS[text.lower()])
        if self._tokens[self._next + 1][1] != "(":
            return self._path()
        self._next += 2
        arguments: list[Node] = []
        self._deeper()
        if not self._accept(")"):
            if text.lower() == "count" and self._accept("*"):
                self._expect(")")
            else:
                arguments.append(self._operand())
                while self._accept(","):
                    arguments.append(self._operand())
                self._expect(")")
        self._depth -= 1
        return Call(text.lower(), tuple(arguments))

    def _path(self) -> Path:
        steps: list[str | int] = [self._take("name", "a property")]
        while True:
            if self._accept("."):
                kind, text, _ = self._tokens[self._next]
                if kind == "bracketed":
                    self._next += 1
                    steps.append(text[2:-2])
                else:
                    steps.append(self._take("name", "a property"))
            elif self._accept("["):
                steps.append(int(float(self._take("number", "an index"))))
                self._expect("]")
            else:
                return Path(tuple(steps))


def _unquote(text: str) -> str:
    quote = text[0]
    return re.sub(r"\\(.)", r"\1", text[1:-1].replace(quote * 2, quote))
