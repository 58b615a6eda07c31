"""Protocol buffers of the two gRPC protocols, described here instead of in generated code.

Only what a scorer reads or writes is described; other fields are skipped, as protocol buffers do.
Names and numbers are those of `open_inference_grpc.proto`
(https://github.com/kserve/open-inference-protocol) and of TensorFlow Serving's
`prediction_service.proto` and what it imports (https://github.com/tensorflow/serving).
"""

from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto
Description = dict[str, dict[str, tuple[int, str]]]

SCALARS = {
    "bool": Field.TYPE_BOOL,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE,
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
}

# message -> field -> number and type: a scalar, a message of this package or `.package.message`;
# in [brackets] where it is repeated, in {braces} for a map from strings
OPEN_INFERENCE: Description = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": (1, "string"),
        "version": (2, "string"),
        "extensions": (3, "[string]"),
    },
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "[int64]")},
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "[string]"),
        "platform": (3, "string"),
        "inputs": (4, "[TensorMetadata]"),
        "outputs": (5, "[TensorMetadata]"),
    },
    "InferTensorContents": {
        "bool_contents": (1, "[bool]"),
        "int_contents": (2, "[int32]"),
        "int64_contents": (3, "[int64]"),
        "uint_contents": (4, "[uint32]"),
        "uint64_contents": (5, "[uint64]"),
        "fp32_contents": (6, "[float]"),
        "fp64_contents": (7, "[double]"),
        "bytes_contents": (8, "[bytes]"),
    },
    "InferInputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "contents": (5, "InferTensorContents"),
    },
    "InferRequestedOutputTensor": {"name": (1, "string")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, "[InferInputTensor]"),
        "outputs": (6, "[InferRequestedOutputTensor]"),
        "raw_input_contents": (7, "[bytes]"),
    },
    "InferOutputTensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, "[int64]"),
        "contents": (5, "InferTensorContents"),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "outputs": (5, "[InferOutputTensor]"),
        "raw_output_contents": (6, "[bytes]"),
    },
}

TENSORFLOW: Description = {
    "Dim": {"size": (1, "int64"), "name": (2, "string")},
    "TensorShapeProto": {"dim": (2, "[Dim]"), "unknown_rank": (3, "bool")},
    # dtype is an enumeration, which on the wire is an int32
    "TensorProto": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "[float]"),
        "double_val": (6, "[double]"),
        "int_val": (7, "[int32]"),
        "string_val": (8, "[bytes]"),
        "int64_val": (10, "[int64]"),
        "bool_val": (11, "[bool]"),
        "half_val": (13, "[int32]"),
        "uint32_val": (16, "[uint32]"),
        "uint64_val": (17, "[uint64]"),
    },
    "TensorInfo": {
        "name": (1, "string"),
        "dtype": (2, "int32"),
        "tensor_shape": (3, "TensorShapeProto"),
    },
    "SignatureDef": {
        "inputs": (1, "{TensorInfo}"),
        "outputs": (2, "{TensorInfo}"),
        "method_name": (3, "string"),
    },
}

TENSORFLOW_SERVING: Description = {
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, ".google.protobuf.Int64Value"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "PredictRequest": {
        "model_spec": (1, "ModelSpec"),
        "inputs": (2, "{.tensorflow.TensorProto}"),
        "output_filter": (3, "[string]"),
    },
    "PredictResponse": {
        "outputs": (1, "{.tensorflow.TensorProto}"),
        "model_spec": (2, "ModelSpec"),
    },
    "SignatureDefMap": {"signature_def": (1, "{.tensorflow.SignatureDef}")},
    "GetModelMetadataRequest": {
        "model_spec": (1, "ModelSpec"),
        "metadata_field": (2, "[string]"),
    },
    "GetModelMetadataResponse": {
        "model_spec": (1, "ModelSpec"),
        "metadata": (2, "{.google.protobuf.Any}"),
    },
}


def file_of(
    package: str, description: Description, imports: tuple[str, ...] = ()
) -> descriptor_pb2.FileDescriptorProto:
    """The description of a package, as protocol buffers have it."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3", dependency=imports
    )
    for name, fields in description.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            _add_field(message, f".{package}.", field, number, kind)
    return file


def _add_field(message: Any, package: str, name: str, number: int, kind: str) -> None:
    inner = kind.strip("[]{}")
    field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
    if kind != inner:
        field.label = Field.LABEL_REPEATED
    if kind.startswith("{"):
        # a map is a repeated message of key and value, named after its field
        entry = message.nested_type.add(name=name.title().replace("_", "") + "Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "key", 1, "string")
        _add_field(entry, package, "value", 2, inner)
        field.type = Field.TYPE_MESSAGE
        field.type_name = f"{package}{message.name}.{entry.name}"
    elif inner in SCALARS:
        field.type = SCALARS[inner]
    else:
        field.type = Field.TYPE_MESSAGE
        field.type_name = inner if inner.startswith(".") else package + inner


def _messages() -> dict[str, Any]:
    # a pool of our own: a program may have the generated code of these protocols as well
    pool = descriptor_pool.DescriptorPool()
    known = (wrappers_pb2.DESCRIPTOR, any_pb2.DESCRIPTOR)
    for file in known:
        pool.AddSerializedFile(file.serialized_pb)
    for package, description, imports in (
        ("inference", OPEN_INFERENCE, ()),
        ("tensorflow", TENSORFLOW, ()),
        (
            "tensorflow.serving",
            TENSORFLOW_SERVING,
            ("tensorflow.proto", *(file.name for file in known)),
        ),
    ):
        pool.AddSerializedFile(file_of(package, description, imports).SerializeToString())
    return {
        f"{package}.{name}": message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{name}")
        )
        for package, description in (
            ("inference", OPEN_INFERENCE),
            ("tensorflow", TENSORFLOW),
            ("tensorflow.serving", TENSORFLOW_SERVING),
        )
        for name in description
    }


# full name -> class; made once, in about a millisecond
MESSAGES = _messages()
