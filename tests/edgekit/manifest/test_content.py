import pytest

from edgekit.errors import ManifestError
from edgekit.manifest import (
    Deployment,
    Module,
    Route,
    Severity,
    build,
    check,
    content_digest,
    modules_content,
)

IMAGE = "registry.example/digits@sha256:" + "a" * 64


def deployment(**changes):
    fields = {
        "agent": Module("edgeAgent", IMAGE),
        "hub": Module("edgeHub", IMAGE, startup_order=0),
        "modules": (Module("scorer", IMAGE, env={"A": "1"}, startup_order=2, desired={"t": 1}),),
        "routes": (
            Route("up", "FROM /messages/modules/scorer/outputs/* INTO $upstream"),
            Route("first", "FROM /* INTO $upstream", priority=0, time_to_live=60),
        ),
    }
    return Deployment(**{**fields, **changes})


def test_a_deployment_takes_the_shape_of_the_hub():
    contents = build(deployment())["modulesContent"]
    agent = contents["$edgeAgent"]["properties.desired"]
    assert agent["modules"] == {
        "scorer": {
            "version": "1.0",
            "type": "docker",
            "settings": {"image": IMAGE, "createOptions": "{}"},
            "env": {"A": {"value": "1"}},
            "status": "running",
            "restartPolicy": "always",
            "startupOrder": 2,
        }
    }
    assert agent["systemModules"]["edgeAgent"] == {
        "type": "docker",
        "settings": {"image": IMAGE, "createOptions": "{}"},
    }
    assert contents["$edgeHub"]["properties.desired"] == {
        "schemaVersion": "1.1",
        "routes": {
            "first": {"route": "FROM /* INTO $upstream", "priority": 0, "timeToLiveSecs": 60},
            "up": "FROM /messages/modules/scorer/outputs/* INTO $upstream",
        },
        "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
    }
    assert contents["scorer"] == {"properties.desired": {"t": 1}}


def test_what_is_built_has_no_findings():
    assert check(build(deployment())) == []


def test_the_order_of_modules_does_not_change_the_digest():
    modules = (Module("a", IMAGE), Module("b", IMAGE))
    one = build(deployment(modules=modules, routes=()))
    other = build(deployment(modules=modules[::-1], routes=()))
    assert content_digest(one) == content_digest(other)
    assert content_digest(one) != content_digest(build(deployment()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modules": (Module("a", IMAGE), Module("a", IMAGE))}, "module a is there twice"),
        ({"modules": (Module("edgeHub", IMAGE),)}, "module edgeHub is there twice"),
        ({"agent": Module("agent", IMAGE)}, "are named edgeAgent and edgeHub"),
        ({"time_to_live": -1}, "time to live -1"),
    ],
)
def test_a_deployment_checks_itself(changes, message):
    with pytest.raises(ManifestError, match=message):
        deployment(**changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "'a b' is no module name"),
        ({"restart_policy": "sometimes"}, "'sometimes' is no restart policy"),
        ({"status": "up"}, "'up' is no status"),
        ({"pull_policy": "always"}, "'always' is no pull policy"),
        ({"startup_order": 2**32}, "out of range"),
        ({"name": "edgeAgent", "startup_order": 1}, "edgeAgent takes no startupOrder"),
    ],
)
def test_a_module_checks_itself(fields, message):
    with pytest.raises(ManifestError, match=message):
        Module(**{"name": "scorer", "image": IMAGE, **fields})


@pytest.mark.parametrize("manifest", [[], {}, {"modules": {}}, {"modulesContent": 3}, "x", None])
def test_what_is_no_manifest_is_said_to_be_none(manifest):
    with pytest.raises(ManifestError):
        modules_content({"modulesContent": []} if manifest == {} else manifest)


def test_a_manifest_is_found_inside_a_configuration():
    inner = build(deployment())
    assert modules_content({"id": "x", "content": inner}) == inner["modulesContent"]
    assert modules_content(inner["modulesContent"]) == inner["modulesContent"]


REMOVED = object()
ERROR, WARNING = Severity.ERROR, Severity.WARNING
AGENT = ("$edgeAgent", "properties.desired")
HUB = ("$edgeHub", "properties.desired")
SCORER = (*AGENT, "modules", "scorer")
OWN = ("scorer", "properties.desired")
UP = (*HUB, "routes", "up")


@pytest.mark.parametrize(
    ("place", "value", "severity", "path", "message"),
    [
        ((*AGENT, "schemaVersion"), "2.0", ERROR, "$edgeAgent.schemaVersion", "not known (1.0"),
        ((*HUB, "schemaVersion"), REMOVED, ERROR, "$edgeHub.schemaVersion", "None is not known"),
        ((*SCORER, "type"), "wasm", ERROR, "scorer.type", "is not docker"),
        ((*SCORER, "settings", "image"), REMOVED, ERROR, "scorer.settings.image", "is missing"),
        ((*SCORER, "settings", "image"), "d:1", WARNING, "scorer.settings.image", "is a tag"),
        ((*SCORER, "settings", "createOptions"), "{", ERROR, "scorer.settings", "not JSON"),
        ((*SCORER, "settings", "createOptions"), "[]", ERROR, "scorer.settings", "JSON list"),
        (
            (*SCORER, "settings", "createOptions02"),
            "x",
            ERROR,
            "scorer.settings.createOptions02",
            "behind a gap",
        ),
        ((*SCORER, "restartPolicy"), "no", ERROR, "scorer.restartPolicy", "is none of always"),
        (
            (*SCORER, "restartPolicy"),
            "on-unhealthy",
            WARNING,
            "scorer.restartPolicy",
            "does not implement",
        ),
        ((*SCORER, "restartPolicy"), "on-failure", WARNING, "scorer.restartPolicy", "poorly"),
        ((*SCORER, "status"), "up", ERROR, "scorer.status", "is none of running, stopped"),
        ((*SCORER, "startupOrder"), -1, ERROR, "scorer.startupOrder", "-1 is not in 0.."),
        ((*SCORER, "env"), {"A": "1"}, ERROR, "scorer.env.A", '{"value": "text"}'),
        (
            (*SCORER, "env", "DB_PASSWORD"),
            {"value": "hunter2"},
            WARNING,
            "scorer.env.DB_PASSWORD.value",
            "looks like the name of a secret",
        ),
        (
            (*AGENT, "systemModules", "edgeAgent", "startupOrder"),
            0,
            ERROR,
            "systemModules.edgeAgent.startupOrder",
            "takes none",
        ),
        (
            (*AGENT, "systemModules", "edgeHub"),
            REMOVED,
            ERROR,
            "systemModules.edgeHub",
            "is missing",
        ),
        (("$edgeHub",), REMOVED, ERROR, "$edgeHub", "is missing"),
        (UP, "FROM x", ERROR, "$edgeHub.routes.up", "does not read FROM"),
        (UP, 5, ERROR, "$edgeHub.routes.up", "a route is text or an object"),
        (
            UP,
            {"route": "FROM /* INTO $upstream", "priority": 10},
            ERROR,
            "$edgeHub.routes.up.priority",
            "10 is not in 0..9",
        ),
        (
            UP,
            "FROM /messages/modules/gone/* INTO $upstream",
            WARNING,
            "$edgeHub.routes.up",
            "names module gone",
        ),
        ((*OWN, "note"), "x" * 4097, ERROR, "scorer.note", "a string of 4097 bytes"),
        (("scorer",), {"desired": {}}, ERROR, "scorer.desired", "a section is named"),
        (("scorer", "properties.desired.x"), 1, ERROR, "scorer", "cannot stand side by side"),
    ],
)
def test_what_is_wrong_is_found(place, value, severity, path, message):
    manifest = build(deployment())
    *parents, last = place
    part = manifest["modulesContent"]
    for name in parents:
        part = part[name]
    if value is REMOVED:
        del part[last]
    else:
        part[last] = value
    (finding,) = check(manifest)
    assert (finding.severity, finding.path.endswith(path)) == (severity, True), finding
    assert message in finding.message


def test_a_manifest_over_the_size_of_a_twin_is_found():
    big = {f"k{number}": "x" * 4000 for number in range(9)}
    manifest = build(deployment(modules=(Module("scorer", IMAGE, desired=big),)))
    (finding,) = check(manifest)
    assert (finding.path, "36018 bytes, the hub takes 32768" in finding.message) == ("scorer", True)


def test_fifty_one_modules_are_too_many():
    modules = tuple(Module(f"m{number}", IMAGE) for number in range(51))
    messages = [finding.message for finding in check(build(deployment(modules=modules, routes=())))]
    assert messages == ["51 modules, the hub takes 50"]


def test_a_layered_manifest_is_checked_as_such():
    layer = {
        "modulesContent": {
            "$edgeAgent": {
                "properties.desired.modules.probe": {
                    "type": "docker",
                    "status": "running",
                    "restartPolicy": "no",
                    "settings": {"image": IMAGE},
                }
            },
            "$edgeHub": {"properties.desired.routes.probe": "FROM nowhere INTO $upstream"},
        }
    }
    assert [finding.path for finding in check(layer)] == [
        "$edgeAgent.modules.probe.restartPolicy",
        "$edgeHub.routes.probe",
    ]
