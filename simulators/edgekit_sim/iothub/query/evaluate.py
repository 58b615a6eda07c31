"""Queries over identities: conditions compiled to closures, columns, groups and order.

A comparison with a property that is not there, or between different types, is neither true nor
false but undefined, and a document whose condition is undefined is not in the answer; `NOT` of
undefined stays undefined. So `tags.floor != 3` does not find devices without a floor, as in the
real service.
"""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.query.syntax import (
    AGGREGATES,
    Call,
    Column,
    Literal,
    Node,
    Path,
    Query,
)


class _Undefined:
    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED = _Undefined()
Getter = Callable[[Any], Any]
Resolve = Callable[[Path], Getter]

# the first names of a path, and where an identity keeps what they mean
_ROOTS: dict[tuple[str, ...], Getter] = {
    ("deviceid",): lambda i: i.device_id,
    ("moduleid",): lambda i: i.module_id or UNDEFINED,
    ("etag",): lambda i: i.twin.etag,
    ("deviceetag",): lambda i: i.etag,
    ("version",): lambda i: i.twin.version,
    ("status",): lambda i: i.status,
    ("statusupdatetime",): lambda i: i.status_changed,
    ("connectionstate",): lambda i: i.connection_state,
    ("lastactivitytime",): lambda i: i.last_activity,
    ("cloudtodevicemessagecount",): lambda i: i.commands,
    ("authenticationtype",): lambda i: i.authentication,
    ("modelid",): lambda i: i.twin.model_id,
    ("devicescope",): lambda i: i.scope or UNDEFINED,
    ("parentscopes",): lambda i: i.parent_scopes,
    ("capabilities", "iotedge"): lambda i: i.edge,
    ("capabilities",): lambda i: {"iotEdge": i.edge},
    ("tags",): lambda i: i.twin.tags,
    ("properties", "desired", "$version"): lambda i: i.twin.desired.version,
    ("properties", "reported", "$version"): lambda i: i.twin.reported.version,
    ("properties", "desired", "$metadata"): lambda i: i.twin.desired.metadata,
    ("properties", "reported", "$metadata"): lambda i: i.twin.reported.metadata,
    ("properties", "desired"): lambda i: i.twin.desired.value,
    ("properties", "reported"): lambda i: i.twin.reported.value,
    ("properties",): lambda i: i.twin_resource()["properties"],
    ("configurations",): lambda i: {
        name: {"status": status} for name, status in i.configurations.items()
    },
}


def compile_condition(node: Node | None) -> Callable[[Any], bool]:
    """A predicate over documents; no condition is true of all.

    Raises:
        HubFault: 400, for a function that does not exist.
    """
    if node is None:
        return lambda _document: True
    evaluate = compile_operand(node)
    return lambda document: evaluate(document) is True


def names_read(node: Node | None) -> set[tuple[str | int, ...]]:
    """The paths a condition reads: what has to change for its answer to change."""
    if node is None or isinstance(node, Literal):
        return set()
    if isinstance(node, Path):
        return {node.steps}
    inner = node.arguments if isinstance(node, Call) else node.operands
    return set().union(*(names_read(part) for part in inner)) if inner else set()


def run(query: Query, documents: Iterable[Any]) -> list[Any]:
    """The rows of a query's answer, in order, not yet cut into pages.

    Args:
        query: what is asked.
        documents: identities of the query's source, or plain JSON objects for jobs.
    """
    matches = compile_condition(query.where)
    found = [document for document in documents if matches(document)]
    if query.group_by or any(_aggregated(column.operand) for column in query.columns):
        return _grouped(query, found)
    for path, descending in reversed(query.order_by):
        found.sort(key=_sort_key(compile_operand(path)), reverse=descending)
    if query.top is not None:
        found = found[: query.top]
    if not query.columns:
        return [_whole(document) for document in found]
    getters = [(column.name, compile_operand(column.operand)) for column in query.columns]
    return [_row(getters, document) for document in found]


def _whole(document: Any) -> Any:
    return document.twin_resource() if isinstance(document, Identity) else document


def _row(getters: Sequence[tuple[str, Getter]], document: Any) -> dict[str, Any]:
    values = ((name, get(document)) for name, get in getters)
    return {name: value for name, value in values if value is not UNDEFINED}


def _sort_key(get: Getter) -> Callable[[Any], tuple[int, Any]]:
    def key(document: Any) -> tuple[int, Any]:
        value = get(document)
        if isinstance(value, bool):
            return (1, value)
        if isinstance(value, int | float):
            return (2, value)
        return (3, value) if isinstance(value, str) else (0, 0)

    return key


def _aggregated(node: Node) -> bool:
    return isinstance(node, Call) and node.name in AGGREGATES


def _grouped(query: Query, documents: list[Any]) -> list[dict[str, Any]]:
    keys = [compile_operand(path) for path in query.group_by]
    groups: dict[tuple[str, ...], list[Any]] = {} if keys else {(): documents}
    for document in documents if keys else ():
        groups.setdefault(tuple(repr(get(document)) for get in keys), []).append(document)
    columns = query.columns or tuple(Column(path, str(path.steps[-1])) for path in query.group_by)
    rows = []
    for members in groups.values():
        row = {column.name: _group_value(column.operand, members) for column in columns}
        rows.append({name: value for name, value in row.items() if value is not UNDEFINED})
    return rows[: query.top] if query.top is not None else rows


def _group_value(node: Node, members: list[Any]) -> Any:
    if not (isinstance(node, Call) and node.name in AGGREGATES):
        return compile_operand(node)(members[0]) if members else UNDEFINED
    if not node.arguments:
        return len(members)
    get = compile_operand(node.arguments[0])
    values = [value for value in map(get, members) if value is not UNDEFINED]
    if node.name == "count":
        return len(values)
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not numbers:
        return UNDEFINED
    if node.name == "avg":
        return sum(numbers) / len(numbers)
    if node.name == "sum":
        return sum(numbers)
    return min(numbers) if node.name == "min" else max(numbers)


def compile_operand(node: Node, resolve: Resolve | None = None) -> Getter:
    """A function that gives an operand's value for a document, `UNDEFINED` where it has none.

    Args:
        node: the operand.
        resolve: what a path means; by default a property of an identity or of plain JSON.

    Raises:
        HubFault: 400, for a function that does not exist.
    """
    resolve = resolve or _compile_path
    if isinstance(node, Literal):
        value = node.value
        return lambda _document: value
    if isinstance(node, Path):
        return resolve(node)
    if isinstance(node, Call):
        return _compile_call(node, resolve)
    operands = [compile_operand(operand, resolve) for operand in node.operands]
    if node.operator == "and":
        return lambda document: _all(operands, document)
    if node.operator == "or":
        return lambda document: _any(operands, document)
    if node.operator == "not":
        inner = operands[0]
        return lambda document: _not(inner(document))
    if node.operator == "in":
        left, items = operands[0], operands[1:]
        return lambda document: _in(left(document), [item(document) for item in items])
    left, right = operands
    combine = _BINARY[node.operator]
    return lambda document: combine(left(document), right(document))


def _compile_path(path: Path) -> Getter:
    lowered = tuple(str(step).lower() for step in path.steps)
    for length in (3, 2, 1):
        root = _ROOTS.get(lowered[:length]) if len(lowered) >= length else None
        if root is not None:
            break
    rest = path.steps[length:]
    steps = path.steps

    def get(document: Any) -> Any:
        if isinstance(document, Identity):
            return _walk(root(document), rest) if root is not None else UNDEFINED
        return _walk(document, steps)

    return get


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step, UNDEFINED)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return UNDEFINED
    return value


def _all(operands: Sequence[Getter], document: Any) -> Any:
    outcome: Any = True
    for evaluate in operands:
        value = evaluate(document)
        if value is False:
            return False
        if value is not True:
            outcome = UNDEFINED
    return outcome


def _any(operands: Sequence[Getter], document: Any) -> Any:
    outcome: Any = False
    for evaluate in operands:
        value = evaluate(document)
        if value is True:
            return True
        if value is not False:
            outcome = UNDEFINED
    return outcome


def _not(value: Any) -> Any:
    return not value if isinstance(value, bool) else UNDEFINED


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def _equal(left: Any, right: Any) -> Any:
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    if left is None or right is None:
        return left is right
    return left == right if _kind(left) == _kind(right) else UNDEFINED


def _in(left: Any, items: list[Any]) -> Any:
    if left is UNDEFINED:
        return UNDEFINED
    return any(_equal(left, item) is True for item in items)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        kind = _kind(left)
        if kind not in ("number", "str", "boolean") or kind != _kind(right):
            return UNDEFINED
        return compare(left, right)

    return apply


def _arithmetic(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def apply(left: Any, right: Any) -> Any:
        if _kind(left) != "number" or _kind(right) != "number":
            return UNDEFINED
        try:
            return calculate(left, right)
        except (ZeroDivisionError, OverflowError):
            return UNDEFINED

    return apply


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "=": _equal,
    "!=": lambda left, right: _not(_equal(left, right)),
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "+": _arithmetic(operator.add),
    "-": _arithmetic(operator.sub),
    "*": _arithmetic(operator.mul),
    "/": _arithmetic(operator.truediv),
    "%": _arithmetic(math.fmod),
}


def _text(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function over strings; undefined for anything else."""

    def apply(*values: Any) -> Any:
        return function(*values) if all(isinstance(v, str) for v in values) else UNDEFINED

    return apply


def _number(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(*values: Any) -> Any:
        if any(_kind(value) != "number" for value in values):
            return UNDEFINED
        try:
            return function(*values)
        except (ValueError, OverflowError):
            return UNDEFINED

    return apply


def _of_kind(*kinds: str) -> Callable[[Any], bool]:
    return lambda value: _kind(value) in kinds


def _as_number(value: Any) -> Any:
    if _kind(value) == "number":
        return value
    try:
        return float(value) if isinstance(value, str) else UNDEFINED
    except ValueError:
        return UNDEFINED


# name -> (fewest arguments, most, function)
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "is_defined": (1, 1, lambda value: value is not UNDEFINED),
    "is_null": (1, 1, lambda value: value is None),
    "is_bool": (1, 1, _of_kind("boolean")),
    "is_number": (1, 1, _of_kind("number")),
    "is_string": (1, 1, _of_kind("str")),
    "is_object": (1, 1, _of_kind("dict")),
    "is_array": (1, 1, _of_kind("list")),
    "is_primitive": (1, 1, _of_kind("boolean", "number", "str", "NoneType")),
    "startswith": (2, 2, _text(str.startswith)),
    "starts_with": (2, 2, _text(str.startswith)),
    "endswith": (2, 2, _text(str.endswith)),
    "ends_with": (2, 2, _text(str.endswith)),
    "contains": (2, 2, _text(lambda text, part: part in text)),
    "index_of": (2, 2, _text(str.find)),
    "lower": (1, 1, _text(str.lower)),
    "upper": (1, 1, _text(str.upper)),
    "length": (1, 1, _text(len)),
    "concat": (1, 99, _text(lambda *parts: "".join(parts))),
    "as_number": (1, 1, _as_number),
    "abs": (1, 1, _number(abs)),
    "ceiling": (1, 1, _number(math.ceil)),
    "floor": (1, 1, _number(math.floor)),
    "exp": (1, 1, _number(math.exp)),
    "power": (2, 2, _number(math.pow)),
    "sqrt": (1, 1, _number(math.sqrt)),
    "square": (1, 1, _number(lambda value: value * value)),
    "sign": (1, 1, _number(lambda value: (value > 0) - (value < 0))),
}


def _compile_call(call: Call, resolve: Resolve) -> Getter:
    if call.name in AGGREGATES:
        raise HubFault(400, "QueryInvalid", f"query: {call.name}() stands only among the columns")
    if call.name not in _FUNCTIONS:
        raise HubFault(400, "QueryInvalid", f"query: there is no function {call.name}()")
    fewest, most, function = _FUNCTIONS[call.name]
    if not fewest <= len(call.arguments) <= most:
        raise HubFault(400, "QueryInvalid", f"query: {call.name}() takes {fewest} argument(s)")
    arguments = [compile_operand(argument, resolve) for argument in call.arguments]
    return lambda document: function(*(argument(document) for argument in arguments))
