"""The report fails for each number that is not what it must be."""

from dataclasses import replace

import pytest

from edgekit_sim.demo.report import Accuracy, Fpga, Image, Report, Telemetry

GOOD = Report(
    model="digits-int8:1",
    accuracy=Accuracy(full=0.99, int8=0.985),
    fpga=Fpga(cycles_estimated=4000, compared=1000, mismatches=0),
    image=Image("sha256:" + "0" * 64, ("linux/amd64", "linux/arm64")),
    engine="processes",
    devices=3,
    devices_ready=3,
    telemetry=Telemetry(sent=30, buffered=10, received=30, lost=0, duplicates=2),
    prediction_mismatches=0,
    seconds=12.34,
)


def test_all_well() -> None:
    assert GOOD.failures() == ()
    assert GOOD.as_json()["ok"] is True


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (replace(GOOD, accuracy=Accuracy(0.99, 0.96)), "int8 accuracy 0.9600"),
        (replace(GOOD, fpga=Fpga(1, 0, 0)), "compared with nothing"),
        (replace(GOOD, fpga=Fpga(1, 10, 1)), "1 FPGA values differ"),
        (replace(GOOD, devices_ready=2), "2 of 3 devices"),
        (replace(GOOD, telemetry=replace(GOOD.telemetry, sent=0)), "nothing was sent"),
        (replace(GOOD, telemetry=replace(GOOD.telemetry, lost=1)), "1 results were lost"),
        (replace(GOOD, telemetry=replace(GOOD.telemetry, buffered=0)), "proved nothing"),
        (replace(GOOD, prediction_mismatches=1), "1 predictions differ"),
    ],
)
def test_a_number_that_is_wrong_is_said(bad: Report, says: str) -> None:
    (sentence,) = bad.failures()
    assert says in sentence
    assert bad.as_json()["ok"] is False


def test_the_table_shows_what_the_json_says() -> None:
    rows = dict(GOOD.rows())
    assert rows["model"] == GOOD.as_json()["model"]
    shown = (rows["results sent"], rows["received by the hub"], rows["doubles recognised"])
    assert shown == ("30", "30", "2")
