"""The protocol buffers described here, against code generated from the protocol's own source."""

from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import service_pb2

from edgekit_runtime.serving.messages import MESSAGES

OURS = sorted(name for name in MESSAGES if name.startswith("inference."))


def field(found: FieldDescriptor) -> tuple[Any, ...]:
    inner = found.message_type.name if found.message_type else None
    return found.name, found.number, found.type, found.label, inner


@pytest.mark.parametrize("name", OURS)
def test_every_field_is_the_protocols(name: str) -> None:
    ours = MESSAGES[name].DESCRIPTOR
    # Triton nests these three where the protocol has them at the top
    theirs = service_pb2.DESCRIPTOR.message_types_by_name
    nested = {
        "InferInputTensor": "ModelInferRequest",
        "InferRequestedOutputTensor": "ModelInferRequest",
        "InferOutputTensor": "ModelInferResponse",
        "TensorMetadata": "ModelMetadataResponse",
    }
    short = name.removeprefix("inference.")
    message = (
        theirs[nested[short]].nested_types_by_name[short] if short in nested else theirs[short]
    )
    for found in ours.fields:
        assert field(found) == field(message.fields_by_number[found.number])


def test_a_message_of_theirs_reads_as_ours() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="m", id="7", raw_input_contents=[b"12"])
    theirs.inputs.add(name="x", datatype="UINT8", shape=[2])
    theirs.parameters["priority"].int64_param = 3
    ours = MESSAGES["inference.ModelInferRequest"].FromString(theirs.SerializeToString())
    assert (ours.model_name, ours.id, ours.raw_input_contents[0]) == ("m", "7", b"12")
    assert (ours.inputs[0].name, list(ours.inputs[0].shape)) == ("x", [2])
