"""Planning, applying and watching against a hub that speaks the real protocol."""

import dataclasses

import pytest
from azure.iot.device import IoTHubModuleClient

from edgekit.errors import FleetError, HubError
from edgekit.fleet import (
    AzureHub,
    Configuration,
    apply,
    from_table,
    load_plan,
    parse_fleet,
    plan,
    save_plan,
    status,
    watch,
)
from edgekit.fleet.planning import Overlap
from edgekit.manifest import merge, modules_content
from edgekit.manifest.layers import Layer
from edgekit_sim.iothub import start_hub

FILE = """\
schema: 1
fleet: digits
groups:
  presses:
    tags: {site: berlin, line: a}
    modules:
      scorer: {image: "digits:1", desired: {threshold: 1}}
  saws:
    target: tags.line = 'b'
    modules:
      scorer: {image: "digits:1", createOptions: {Cmd: [CMD]}}
""".replace("CMD", "x" * 1000)
IMAGES = from_table({"digits:1": "registry.example/digits@sha256:" + "a" * 64})


def fleet(*changes):
    text = FILE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return parse_fleet(text, IMAGES)


def twin_of(simulator, device, module):
    return simulator.request("GET", f"/twins/{device}/modules/{module}")


def desired_of(simulator, device, module):
    desired = twin_of(simulator, device, module)["properties"]["desired"]
    return {key: value for key, value in desired.items() if not key.startswith("$")}


def test_devices_get_what_the_plan_says(hub, simulator):
    planned = plan(fleet(), hub)
    assert [
        (group.group, group.action, group.revision, group.devices, group.calls, group.before)
        for group in planned.groups
    ] == [("presses", "create", 1, 2, 1, {}), ("saws", "create", 1, 1, 1, {})]
    assert planned.calls == 3
    made = apply(planned, hub)
    assert [item.id for item in made] == ["edgekit-digits-presses-r1", "edgekit-digits-saws-r1"]
    for device, group in (("press-1", 0), ("press-2", 0), ("saw-1", 1)):
        for module in ("$edgeAgent", "$edgeHub"):
            assert desired_of(simulator, device, module) == planned.groups[group].after[module]
    assert desired_of(simulator, "press-1", "scorer") == {"threshold": 1}
    again = plan(fleet(), hub)
    assert [group.action for group in again.groups] == ["none", "none"]
    assert again.changes_anything is False
    assert apply(again, hub) == []


def test_a_new_content_is_a_new_revision_of_a_higher_priority(hub, simulator):
    apply(plan(fleet(), hub), hub)
    planned = plan(fleet(("threshold: 1", "threshold: 2")), hub)
    assert [(g.action, g.revision, g.kept) for g in planned.groups] == [
        ("create", 2, 1),
        ("none", 1, 0),
    ]
    (change,) = planned.groups[0].changes
    assert (change.where, change.before, change.after) == ("scorer.threshold", 1, 2)
    (made,) = apply(planned, hub)
    assert (made.id, made.priority) == ("edgekit-digits-presses-r2", 10002)
    assert made.labels["revision"] == "2"
    assert desired_of(simulator, "press-2", "scorer") == {"threshold": 2}
    assert {item.id for item in hub.configurations()} == {
        "edgekit-digits-presses-r1",
        "edgekit-digits-presses-r2",
        "edgekit-digits-saws-r1",
    }


def test_a_new_condition_moves_all_revisions_and_makes_none(hub, simulator):
    apply(plan(fleet(), hub), hub)
    apply(plan(fleet(("threshold: 1", "threshold: 2")), hub), hub)
    changed = fleet(("threshold: 1", "threshold: 2"), ("line: a", "line: c"))
    planned = plan(changed, hub)
    step = planned.groups[0]
    assert (step.action, step.revision, step.devices, len(step.updates)) == ("update", 2, 0, 2)
    apply(planned, hub)
    hub.patch_tags("press-1", {"line": "c"})
    assert hub.configuration("edgekit-digits-presses-r1").condition == step.updates[0].condition
    assert twin_of(simulator, "press-1", "$edgeAgent")["configurations"] == {
        "edgekit-digits-presses-r2": {"status": "Applied"}
    }
    assert not twin_of(simulator, "press-2", "$edgeAgent").get("configurations")


def test_apply_refuses_when_the_hub_changed(hub):
    planned = plan(fleet(), hub)
    layer = {"$edgeAgent": {"properties.desired.modules.probe": {"type": "docker"}}}
    other = Configuration("other", {"modulesContent": layer}, "tags.line = 'a'", 1)
    hub.create(other)
    with pytest.raises(FleetError, match="changed since the plan: configuration other is new"):
        apply(planned, hub)
    planned = plan(fleet(), hub)
    stored = hub.configuration("other")
    hub.update(dataclasses.replace(stored, priority=2))
    with pytest.raises(FleetError, match="configuration other changed"):
        apply(planned, hub)
    assert [item.id for item in hub.configurations()] == ["other"]


def test_two_applies_at_once_cannot_both_win(hub):
    planned = plan(fleet(), hub)
    apply(planned, hub)
    with pytest.raises(FleetError, match="edgekit-digits-presses-r1 is new"):
        apply(planned, hub)
    with pytest.raises(HubError, match="409") as caught:
        hub.create(planned.groups[0].create)
    assert "plan again" in caught.value.hint


def test_an_update_with_an_old_etag_is_refused(hub):
    apply(plan(fleet(), hub), hub)
    stored = hub.configuration("edgekit-digits-saws-r1")
    hub.update(dataclasses.replace(stored, priority=5))
    with pytest.raises(HubError, match="412"):
        hub.update(dataclasses.replace(stored, priority=6))


def test_layers_of_others_are_part_of_what_devices_get(hub, simulator):
    probe = {"type": "docker", "status": "running", "restartPolicy": "always"}
    layer = {"$edgeAgent": {"properties.desired.modules.probe": probe}}
    hub.create(Configuration("probe", {"modulesContent": layer}, "tags.site='berlin'", 99000000))
    hub.create(Configuration("low", {"modulesContent": layer}, "deviceId = 'press-1'", 1))
    planned = plan(fleet(), hub)
    presses, saws = planned.groups
    assert presses.after["$edgeAgent"]["modules"]["probe"] == probe
    assert (presses.overlaps, saws.overlaps) == ((Overlap("low", 1),), ())
    apply(planned, hub)
    assert desired_of(simulator, "press-2", "$edgeAgent") == presses.after["$edgeAgent"]


def test_the_hub_merges_as_we_do(hub, simulator):
    """Four deployments over one device: the twin is what `merge` says."""
    contents = {
        "base-low": (1, {"$edgeAgent": {"properties.desired": {"schemaVersion": "1.0"}}}),
        "layer-below": (2, {"$edgeAgent": {"properties.desired.modules.gone": {"a": 1}}}),
        "base": (
            3,
            {
                "$edgeAgent": {
                    "properties.desired": {"schemaVersion": "1.1", "modules": {"m": {"v": 1}}}
                },
                "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
            },
        ),
        "layer": (
            4,
            {
                "$edgeAgent": {"properties.desired.modules.m": {"w": 2}},
                "$edgeHub": {"properties.desired.routes.r": "FROM /* INTO $upstream"},
            },
        ),
        "layer-same": (4, {"$edgeAgent": {"properties.desired.modules.m.x": 3}}),
    }
    layers = []
    for name, (priority, content) in contents.items():
        made = hub.create(
            Configuration(name, {"modulesContent": content}, "deviceId = 'saw-1'", priority)
        )
        layers.append(Layer(made.id, made.priority, made.created, made.content))
    merged = merge(layers)
    for module in ("$edgeAgent", "$edgeHub"):
        assert desired_of(simulator, "saw-1", module) == merged[module]
    assert merged["$edgeAgent"]["modules"] == {"m": {"w": 2, "x": 3}}


def test_status_moves_as_devices_report(hub, simulator):
    names = ["presses", "saws"]
    before = status("digits", names, hub)
    assert [(g.revision, g.done) for g in before.groups] == [(0, False), (0, False)]
    apply(plan(fleet(), hub), hub)
    assert counts(hub) == [(2, 2, 0, 0, 0), (1, 1, 0, 0, 0)]
    report(simulator, "press-1", 200, "running")
    report(simulator, "press-2", 500, "failed")
    assert counts(hub) == [(2, 2, 1, 1, 1), (1, 1, 0, 0, 0)]
    with pytest.raises(FleetError, match=r"presses 1 of 2 devices, 1 failed, saws 0 of 1 devices"):
        list(watch("digits", names, hub, timeout=0))
    report(simulator, "press-2", 200, "running")
    report(simulator, "saw-1", 200, "running")
    (last,) = watch("digits", names, hub, timeout=60)
    assert (last.done, counts(hub)) == (True, [(2, 2, 2, 0, 2), (1, 1, 1, 0, 1)])


def counts(hub):
    return [
        (group.targeted, group.applied, group.succeeded, group.failed, group.running)
        for group in status("digits", ["presses", "saws"], hub).groups
    ]


def report(simulator, device, code, runtime_status):
    """Report as the IoT Edge agent of a device does."""
    version = twin_of(simulator, device, "$edgeAgent")["properties"]["desired"]["$version"]
    client = IoTHubModuleClient.create_from_connection_string(
        simulator.device_connection_string(device, "$edgeAgent")
    )
    try:
        client.connect()
        client.patch_twin_reported_properties(
            {
                "lastDesiredVersion": version,
                "lastDesiredStatus": {"code": code},
                "modules": {"scorer": {"runtimeStatus": runtime_status}},
            }
        )
    finally:
        client.shutdown()


def test_an_apply_that_is_cut_off_goes_on_where_it_was(monkeypatch, tmp_path):
    with start_hub(tmp_path / "state") as simulator:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca_file)
        hub = AzureHub(simulator.service_connection_string, retries=0)
        planned = plan(fleet(), hub)
        with pytest.raises(HubError, match="edgekit-digits-presses-r1 was already stored"):
            apply(planned, hub, lambda _stored: simulator.kill())
        simulator.start()
        hub = AzureHub(simulator.service_connection_string, retries=0)
        again = plan(fleet(), hub)
        assert [group.action for group in again.groups] == ["none", "create"]
        assert [item.id for item in apply(again, hub)] == ["edgekit-digits-saws-r1"]


def test_a_saved_plan_is_the_plan(hub, tmp_path):
    planned = plan(fleet(), hub)
    save_plan(planned, tmp_path / "plan.json")
    loaded = load_plan(tmp_path / "plan.json")
    assert (loaded, loaded.digest) == (planned, planned.digest)
    assert len(apply(loaded, hub)) == 2


def test_a_plan_that_was_edited_is_refused(hub, tmp_path):
    file = tmp_path / "plan.json"
    save_plan(plan(fleet(), hub), file)
    file.write_text(file.read_text().replace('"threshold": 1', '"threshold": 9'))
    with pytest.raises(FleetError, match="not what its digest says"):
        load_plan(file)


def test_a_plan_for_another_hub_is_refused(hub):
    planned = dataclasses.replace(plan(fleet(), hub), hub="other.azure-devices.net")
    with pytest.raises(FleetError, match="the plan is for other"):
        apply(planned, hub)


def test_a_query_that_the_hub_refuses_is_one_line(hub):
    with pytest.raises(HubError, match="refused to query: 400"):
        hub.query("SELECT COUNT() AS n FROM devices WHERE (tags.line ==)")


def test_a_taken_name_is_refused_before_anything_is_changed(hub):
    content = {"$edgeAgent": {"properties.desired": {"schemaVersion": "1.1"}}}
    hub.create(Configuration("edgekit-digits-saws-r1", {"modulesContent": content}, "", 1))
    with pytest.raises(FleetError, match="edgekit-digits-saws-r1 on the hub is not revision 1"):
        plan(fleet(), hub)


def test_rows_come_page_by_page_and_tags_go(hub):
    assert hub.query("SELECT COUNT() AS n FROM devices") == [{"n": 4}]
    hub.patch_tags("saw-1", {"line": None, "bucket": 7})
    rows = hub.query("SELECT deviceId, tags.bucket FROM devices WHERE tags.bucket = 7")
    assert [row["deviceId"] for row in rows] == ["saw-1"]
    assert hub.configuration("none") is None


def test_a_wrong_key_is_one_line_without_the_key(simulator):
    head, _, key = simulator.service_connection_string.rpartition("SharedAccessKey=")
    wrong = ("B" if key[0] != "B" else "C") + key[1:]
    with pytest.raises(HubError, match="401 the credentials are refused") as caught:
        AzureHub(f"{head}SharedAccessKey={wrong}").configurations()
    assert wrong not in f"{caught.value}{caught.value.hint}"
    assert "\n" not in str(caught.value)


def test_a_certificate_of_nobody_is_one_line(simulator, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(HubError, match="a certificate this machine does not trust") as caught:
        AzureHub(simulator.service_connection_string, retries=0).configurations()
    assert "REQUESTS_CA_BUNDLE" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "HostName=x",
        "HostName=x;SharedAccessKeyName=y",
        "HostName=x;SharedAccessKeyName=y;SharedAccessKey=se*cret",
        "HostName=x;SharedAccessKeyName=y;SharedAccessKey=",
        "hunter2",
    ],
)
def test_a_connection_string_that_does_not_read_is_not_repeated(text):
    with pytest.raises(HubError, match="connection string") as caught:
        AzureHub(text)
    assert "hunter2" not in str(caught.value)
    assert "se*cret" not in str(caught.value)


def test_the_plan_is_checked_against_the_hubs_limits_before_the_hub_is_asked():
    big = "{" + ", ".join(f"k{number}: {'x' * 4000}" for number in range(9)) + "}"
    with pytest.raises(Exception, match="36018 bytes, the hub takes 32768"):
        fleet(("{threshold: 1}", big))


def test_long_create_options_arrive_whole(hub, simulator):
    apply(plan(fleet(), hub), hub)
    settings = desired_of(simulator, "saw-1", "$edgeAgent")["modules"]["scorer"]["settings"]
    assert sorted(settings) == ["createOptions", "createOptions01", "image"]
    planned = modules_content(fleet().groups[1].manifest)["$edgeAgent"]["properties.desired"]
    assert settings == planned["modules"]["scorer"]["settings"]
