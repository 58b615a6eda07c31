import pytest

from edgekit.errors import ManifestError
from edgekit.manifest.routes import ParsedRoute, parse_route


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM /* INTO $upstream", ParsedRoute("/*", "", "$upstream", None, None)),
        (
            "FROM /messages/modules/scorer/outputs/* INTO $upstream",
            ParsedRoute("/messages/modules/scorer/outputs/*", "", "$upstream", "scorer", None),
        ),
        (
            (
                "from /messages/modules/a/outputs/x where (t > 5 AND s = ' INTO ') into"
                ' BrokeredEndpoint("/modules/b/inputs/y")'
            ),
            ParsedRoute(
                "/messages/modules/a/outputs/x",
                "(t > 5 AND s = ' INTO ')",
                'BrokeredEndpoint("/modules/b/inputs/y")',
                "a",
                "b",
            ),
        ),
    ],
)
def test_a_route_is_taken_apart(text, expected):
    assert parse_route(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not read FROM"),
        ("FROM /messages/* INTO", "does not read FROM"),
        ("FROM messages INTO $upstream", "does not read FROM"),
        ("FROM /telemetry INTO $upstream", "/telemetry is no source"),
        ("FROM /messages/modules/a/inputs/b INTO $upstream", "is no source"),
        ("FROM /messages/* INTO upstream", "upstream is no sink"),
        ("FROM /messages/* INTO $upstream, $upstream", "is no sink"),
        ('FROM /* INTO BrokeredEndpoint("/modules/b/outputs/y")', "is no sink"),
        ("FROM /* WHERE (a > 1 INTO $upstream", "do not match"),
        ("FROM /* WHERE a = 'b INTO $upstream", "do not match"),
    ],
)
def test_a_wrong_route_says_which_part(text, message):
    with pytest.raises(ManifestError, match=message.replace("$", r"\$")):
        parse_route(text)
