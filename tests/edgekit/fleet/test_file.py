from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ManifestError
from edgekit.fleet import from_table, load_fleet, no_records, parse_fleet
from edgekit.fleet.file import load_names
from edgekit.manifest import Severity, check

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/digits@{DIGEST}"
IMAGES = from_table({"digits:1": IMAGE})
EXAMPLE = Path(__file__).parents[3] / "examples/digits-fleet/fleet.yaml"

SMALL = """\
schema: 1
fleet: digits
groups:
  line-a:
    tags: {site: berlin}
    modules:
      scorer:
        image: digits:1
        env: {EDGEKIT_BROKER: "host:1883", PORT: 8080}
"""


def module_of(fleet, name="scorer"):
    content = fleet.groups[0].manifest["modulesContent"]
    return content["$edgeAgent"]["properties.desired"]["modules"][name]


def test_the_example_builds_manifests_without_errors():
    fleet = load_fleet(EXAMPLE, IMAGES)
    assert [(group.name, group.condition, group.priority) for group in fleet.groups] == [
        ("line-a", "tags.line = 'a' AND tags.site = 'berlin'", 10),
        ("line-b", "tags.site = 'berlin' AND tags.line = 'b'", 20),
    ]
    findings = [finding for group in fleet.groups for finding in check(group.manifest)]
    assert {finding.severity for finding in findings} == {Severity.WARNING}
    assert {finding.path.split(".")[1] for finding in findings} == {"systemModules"}
    assert module_of(fleet)["settings"]["image"] == IMAGE


def test_names_are_read_without_resolving_images():
    assert load_names(EXAMPLE) == (
        "digits",
        {
            "line-a": "tags.line = 'a' AND tags.site = 'berlin'",
            "line-b": "tags.site = 'berlin' AND tags.line = 'b'",
        },
    )


def test_numbers_in_the_environment_become_text():
    env = module_of(parse_fleet(SMALL, IMAGES))["env"]
    assert env == {"EDGEKIT_BROKER": {"value": "host:1883"}, "PORT": {"value": "8080"}}


def test_variables_of_the_environment_are_put_in(monkeypatch):
    monkeypatch.setenv("SITE_BROKER", "10.0.0.1:1883")
    env = module_of(parse_fleet(SMALL.replace("host:1883", "${env:SITE_BROKER}"), IMAGES))["env"]
    assert env["EDGEKIT_BROKER"] == {"value": "10.0.0.1:1883"}


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("fleet: digits", "fleet: Digits", 2, "fleet: String should match"),
        ("schema: 1", "schema: 2", 1, "schema: Input should be 1, not '2'"),
        ("tags: {site: berlin}", "priority: 1", 4, "groups.line-a: say which devices"),
        ("tags: {site: berlin}", "tags: {}", 4, "groups.line-a: tags: is empty"),
        ("tags: {site: berlin}", "target: site = 1", 5, "groups.line-a.target: target condition"),
        ("tags: {site: berlin}", "tags: {a b: 1}", 5, "groups.line-a.tags.a b: String should"),
        ("image: digits:1", "imag: digits:1", 7, "groups.line-a.modules.scorer.image: is missing"),
        ("image: digits:1", "image: digits:1\n        color: red", 9, "color: is not known here"),
        (
            "image: digits:1",
            "image: digits:1\n        restartPolicy: sometimes",
            9,
            "groups.line-a.modules.scorer.restartPolicy: Input should be 'always'",
        ),
        ("8080", "true", 9, 'env.PORT: write it in quotes: "true"'),
        ("8080", "1.10", 9, 'env.PORT: write it in quotes: "1.1"'),
        ("scorer:", "edgeHub:", 7, "modules.edgeHub: edgeHub stands under runtime:"),
        ("image: digits:1", "image: nginx/nginx:1", 8, "nginx/nginx:1 is a tag, which can move"),
        ("image: digits:1", "image: digits:2", 8, "image: no image of digits:2 is known"),
        ("host:1883", "${env:NOT_SET_ANYWHERE}", 9, "environment variable NOT_SET_ANYWHERE"),
        ("PORT: 8080", "API_KEY: abc", 9, "env.API_KEY: API_KEY looks like the name of a secret"),
        ("host:1883", "AccountKey=x", 9, "env.EDGEKIT_BROKER: the value looks like a credential"),
        (
            "image: digits:1",
            "image: digits:1\n        desired: {a.b: 1}",
            4,
            "scorer.a.b: a key holds none of",
        ),
        (
            "image: digits:1",
            'image: digits:1\n        createOptions: {Env: ["amqp://me:pass@host"]}',
            9,
            "createOptions.Env.0: the value looks like a credential",
        ),
        ("    tags:", "    routes: {up: FROM x}\n    tags:", 5, "routes.up: route 'FROM x'"),
        ("line-a:", "line-a: {}\n  line-a:", 5, "'line-a' is there twice"),
        ("fleet: digits", "fleet: [", 4, "no YAML"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(old, new, line, message):
    assert SMALL.count(old) == 1
    with pytest.raises(ManifestError) as caught:
        parse_fleet(SMALL.replace(old, new), IMAGES)
    text = str(caught.value)
    assert text.startswith(f"fleet.yaml:{line}: "), text
    assert (message in text, "\n" in text) == (True, False), text


def test_secrets_are_not_repeated_in_the_error():
    with pytest.raises(ManifestError) as caught:
        parse_fleet(SMALL.replace("PORT: 8080", "DB_PASSWORD: hunter2"), IMAGES)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


def test_secrets_from_the_environment_are_refused_too(monkeypatch):
    monkeypatch.setenv("SITE", "SharedAccessKey=hunter2")
    with pytest.raises(ManifestError, match="looks like a credential") as caught:
        parse_fleet(SMALL.replace("host:1883", "${env:SITE}"), IMAGES)
    assert "hunter2" not in str(caught.value)


def test_the_path_of_a_secret_is_welcome():
    fleet = parse_fleet(SMALL.replace("PORT: 8080", "DB_PASSWORD_FILE: /run/db"), IMAGES)
    assert module_of(fleet)["env"]["DB_PASSWORD_FILE"] == {"value": "/run/db"}


@pytest.mark.parametrize("text", ["", "- a", "just text", "{", "\t", "a: &a [*a]", "? [x]\n: 1"])
def test_what_is_no_fleet_file_is_one_error(text):
    with pytest.raises(ManifestError):
        parse_fleet(text, no_records)


def test_aliases_that_blow_up_are_refused_at_once():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    with pytest.raises(ManifestError, match="too deep or too many values"):
        parse_fleet(bomb, no_records)


@given(st.text(max_size=200))
def test_any_text_is_refused_in_one_line(text):
    with pytest.raises(ManifestError) as caught:
        parse_fleet(text, no_records)
    assert str(caught.value).startswith("fleet.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ManifestError, match="No such file"):
        load_fleet(tmp_path / "none.yaml", no_records)


def test_an_image_from_the_table_must_be_by_digest():
    with pytest.raises(ManifestError, match="is not by digest"):
        from_table({"digits:1": "registry.example/digits:1"})
