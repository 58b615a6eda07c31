"""Target conditions: boolean expressions over deviceId, tags and reported properties.

The grammar follows the hub's query language ("Conditions and expressions"): comparisons, lists with
IN and NIN, NOT, AND, OR, brackets, IS_DEFINED and the other type functions, STARTSWITH, ENDSWITH,
CONTAINS. Only the form is checked; whether a tag exists is for the hub to know.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import ManifestError

EVERY_DEVICE = "*"
TagValue = str | int | bool

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    | (?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<name>\$?[A-Za-z_][\w$]*(?:\.(?:\$?[A-Za-z_][\w$]*|\[\[[^\]]+\]\]))*)
    | (?P<operator><=|>=|<>|!=|=|<|>)
    | (?P<mark>[()\[\],])
    )""",
    re.VERBOSE,
)
_FUNCTIONS = {
    "is_defined": 1,
    "is_null": 1,
    "is_bool": 1,
    "is_number": 1,
    "is_string": 1,
    "is_object": 1,
    "is_primitive": 1,
    "startswith": 2,
    "starts_with": 2,
    "endswith": 2,
    "ends_with": 2,
    "contains": 2,
}
_LITERALS = {"true", "false", "null"}
_RESERVED = {"and", "or", "not", "in", "nin", "is"}
_ROOTS = ("tags.", "properties.reported.")


def of_tags(tags: Mapping[str, TagValue | Sequence[TagValue]]) -> str:
    """The condition that all of `tags` hold; a list of values means any of them.

    Example:
        >>> of_tags({"site": "berlin", "line": ["a", "b"]})
        "tags.line IN ['a', 'b'] AND tags.site = 'berlin'"
    """
    parts = []
    for name, value in sorted(tags.items()):
        if isinstance(value, str | int):
            parts.append(f"tags.{name} = {_literal(value)}")
        else:
            parts.append(f"tags.{name} IN [{', '.join(map(_literal, value))}]")
    return " AND ".join(parts)


def _literal(value: TagValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def check_condition(text: str) -> None:
    """Read a target condition to its end.

    Raises:
        ManifestError: the hub would refuse it; the message says what and at which character.
    """
    if text.strip() == EVERY_DEVICE:
        return
    _Reader(text).read()


class _Reader:
    """A recursive descent over the tokens; nothing is evaluated."""

    DEEPEST = 50

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = self._tokens()
        self.next = 0
        self.depth = 0

    def read(self) -> None:
        """Read one expression that takes the whole text."""
        self._either()
        if self.next < len(self.tokens):
            self._fail(f"{self.tokens[self.next].text!r} is not expected")

    def _tokens(self) -> list[_Token]:
        found = []
        position = 0
        end = len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                start = position + len(self.text[position:]) - len(self.text[position:].lstrip())
                raise _refusal(self.text, start, f"cannot read {self.text[start:][:10]!r}")
            kind = match.lastgroup
            found.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return found

    def _fail(self, reason: str) -> None:
        at = self.tokens[self.next].position if self.next < len(self.tokens) else len(self.text)
        raise _refusal(self.text, at, reason)

    def _peek(self) -> str:
        """The next token, words in lower case, or "" at the end."""
        if self.next >= len(self.tokens):
            return ""
        token = self.tokens[self.next]
        return token.text.lower() if token.kind != "string" else token.text

    def _accept(self, *texts: str) -> bool:
        if self._peek() in texts and self._peek():
            self.next += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._fail(f"expected {text!r}")

    def _either(self) -> None:
        self.depth += 1
        if self.depth > self.DEEPEST:
            self._fail("brackets are nested too deep")
        self._both()
        while self._accept("or"):
            self._both()
        self.depth -= 1

    def _both(self) -> None:
        self._not()
        while self._accept("and"):
            self._not()

    def _not(self) -> None:
        while self._accept("not"):
            pass
        if self._accept("("):
            self._either()
            self._expect(")")
        else:
            self._comparison()

    def _comparison(self) -> None:
        if self._peek() in _FUNCTIONS:
            if self._call():
                return
        else:
            self._operand()
        negated = self._accept("not")
        if self._accept("in", "nin"):
            self._expect("[")
            self._operand()
            while self._accept(","):
                self._operand()
            self._expect("]")
        elif negated:
            self._fail("expected IN")
        elif self._accept("is"):
            self._accept("not")
            if not self._accept("defined", "null"):
                self._fail("expected DEFINED or NULL")
        elif self._accept("=", "!=", "<>", "<", ">", "<=", ">="):
            self._operand()
        else:
            self._fail("expected a comparison")

    def _call(self) -> bool:
        """A function; true when it ends the comparison, false when an operator follows."""
        arguments = _FUNCTIONS[self._peek()]
        self.next += 1
        self._expect("(")
        self._operand()
        for _ in range(arguments - 1):
            self._expect(",")
            self._operand()
        self._expect(")")
        return self._peek() not in ("=", "!=", "<>")

    def _operand(self) -> None:
        if self.next >= len(self.tokens):
            self._fail("the condition ends too early")
        token = self.tokens[self.next]
        word = token.text.lower()
        if token.kind in ("string", "number") or word in _LITERALS:
            self.next += 1
        elif token.kind == "name" and word not in _RESERVED:
            known = token.text == "deviceId" or token.text.startswith(_ROOTS)
            if not known:
                self._fail(f"{token.text} is none of deviceId, tags.NAME, properties.reported.NAME")
            self.next += 1
        else:
            self._fail(f"{token.text!r} is not expected")


def _refusal(text: str, position: int, reason: str) -> ManifestError:
    return ManifestError(
        f"target condition {text!r}: {reason} at character {position + 1}",
        "for example: tags.site = 'berlin' AND tags.line IN ['a', 'b']",
    )
