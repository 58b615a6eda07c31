"""Int8 graphs for the tests: small float nets of our own through ONNX Runtime's quantizer."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)


class Readings(CalibrationDataReader):
    """Calibration arrays, one after the other."""

    def __init__(self, name, batches):
        self._batches = iter([{name: batch} for batch in batches])

    def get_next(self):
        return next(self._batches, None)


def float_model(nodes, shape, outputs, constants, opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def quantized(model, samples, form="qop", activations=QuantType.QInt8, per_channel=True):
    """The int8 form of a float model: `form` is qop or qdq."""
    formats = {"qop": QuantFormat.QOperator, "qdq": QuantFormat.QDQ}
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        quantize_static(
            source,
            target,
            Readings("x", samples),
            quant_format=formats[form],
            activation_type=activations,
            weight_type=QuantType.QInt8,
            per_channel=per_channel,
        )
        return target.read_bytes()


def small_net(seed, form="qop", activations=QuantType.QInt8, per_channel=True):
    """Conv, depthwise conv, residual add, max and average pooling, dense: what digits has."""
    rng = np.random.default_rng(seed)

    def weights(*shape):
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "w1": weights(12, 1, 3, 3),
        "b1": weights(12, 1)[:, 0],
        "wd": weights(12, 1, 3, 3),
        "bd": weights(12, 1)[:, 0],
        "wp": weights(12, 12, 1, 1),
        "bp": weights(12, 1)[:, 0],
        "w3": weights(20, 12, 3, 3),
        "w4": weights(10, 20),
        "b4": weights(10, 1)[:, 0],
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "wd", "bd"], ["cd"], pads=[1, 1, 1, 1], group=12),
        helper.make_node("Relu", ["cd"], ["rd"]),
        helper.make_node("Conv", ["rd", "wp", "bp"], ["cp"]),
        helper.make_node("Add", ["cp", "r1"], ["s"]),
        helper.make_node("Relu", ["s"], ["rs"]),
        helper.make_node("MaxPool", ["rs"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m", "w3"], ["c3"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("GlobalAveragePool", ["r3"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    model = float_model(nodes, (1, 8, 8), ["y"], constants)
    samples = [rng.normal(size=(4, 1, 8, 8)).astype(np.float32) for _ in range(4)]
    return quantized(model, samples, form, activations, per_channel)
