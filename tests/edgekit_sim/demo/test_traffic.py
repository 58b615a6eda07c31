"""The account of what was sent and what came."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit_sim.demo.traffic import Ledger, infer_request, prediction


def _event(sequence: int, identifier: str, digit: int) -> dict[str, Any]:
    logits = [1.0 if place == digit else 0.0 for place in range(10)]
    body = {"id": identifier, "outputs": [{"name": "logits", "data": logits}]}
    return {"sequence": sequence, "systemProperties": {"message-id": identifier}, "body": body}


def test_a_request_carries_shape_and_pixels() -> None:
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8)
    request = json.loads(infer_request("a-1", image))
    assert request["id"] == "a-1"
    assert request["inputs"][0]["shape"] == [1, 1, 8, 8]
    assert request["inputs"][0]["data"] == list(range(64))


def test_an_error_of_the_scorer_is_no_prediction() -> None:
    with pytest.raises(EdgekitError, match="refused a-1: wrong shape"):
        prediction({"id": "a-1", "error": "wrong shape"})


@given(st.lists(st.integers(0, 9), max_size=30), st.data())
def test_every_arrival_is_new_or_a_duplicate(digits: list[int], data: st.DataObject) -> None:
    ledger = Ledger()
    for index, digit in enumerate(digits):
        ledger.expect(str(index), digit)
    arrivals = data.draw(st.lists(st.sampled_from(range(len(digits))))) if digits else []
    new = ledger.take(_event(n, str(i), digits[i]) for n, i in enumerate(arrivals))
    assert new + ledger.duplicates == len(arrivals)
    assert len(ledger.sent) == len(ledger.received) + ledger.lost
    assert ledger.mismatches == 0


def test_a_wrong_prediction_is_counted() -> None:
    ledger = Ledger()
    ledger.expect("a", 7)
    ledger.take([_event(1, "a", 1)])
    assert (ledger.lost, ledger.mismatches) == (0, 1)


def test_a_stranger_is_not_counted() -> None:
    ledger = Ledger()
    assert ledger.take([_event(4, "not-ours", 1)]) == 0
    assert (ledger.last_event, ledger.duplicates) == (4, 0)
