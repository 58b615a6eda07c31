"""QuantizeLinear and DequantizeLinear: where float and quantized tensors meet."""

import numpy as np
import onnx

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Array, Builder, Node, Unsupported, quantization_json
from edgekit_fpga.compiler.operators.elementwise import table_layer
from edgekit_fpga.compiler.operators.floats import lower
from edgekit_fpga.compiler.operators.postponing import ends_on_cpu
from edgekit_fpga.compiler.tables import requantize_table
from edgekit_fpga.cpu import CpuOp


def quantize_linear(b: Builder, node: Node) -> None:
    """A float tensor becomes quantized: at the pipeline's start, or after a float island."""
    source, made = node.inputs[0], node.outputs[0]
    if source in b.constants:
        b.constants[made] = _quantized_constant(b, node)
        return
    signed = node.attributes.get("output_dtype", 0) == onnx.TensorProto.INT8
    quantization = b.quantization(*_parameters(node), signed=signed)
    if source in b.types:
        b.before.append(CpuOp("QuantizeLinear", (source,), made, quantization_json(quantization)))
        b.add_tensor(made, b.shapes[source], quantization)
        b.entries.append(made)
    elif source in b.real and b.held(source) in b.late:
        _pass_on(b, b.held(source), made, quantization)
    elif source in b.real:
        held = b.source(source)
        if b.tensors[held].quantization == quantization:
            b.make_alias(made, b.real[source], b.shapes[source])
        else:
            table = requantize_table(b.tensors[held].quantization, quantization)
            table_layer(b, node.name, held, made, b.shapes[source], quantization, table)
    elif source in b.pending and ends_on_cpu(b, source):
        b.pending[made], b.shapes[made] = node, b.shapes[source]
    elif source in b.pending:
        lower(b, b.pending[source], made, quantization)
    else:
        raise Unsupported(f"its input {source} comes from nowhere")


def _parameters(node: Node) -> tuple[str, str]:
    """The names of scale and zero point; the latter may be empty."""
    return node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else ""


def _quantized_constant(b: Builder, node: Node) -> Array:
    """Float weights that the graph itself quantizes: round half to even, saturate."""
    real = b.constants[node.inputs[0]]
    scale_name, zero_name = _parameters(node)
    scale = b.constant(scale_name, "scale").astype(np.float32)
    kind = np.int8 if node.attributes.get("output_dtype", 0) == onnx.TensorProto.INT8 else np.uint8
    zero = b.constant(zero_name, "zero point") if zero_name else np.zeros((), kind)
    if zero.dtype not in (np.int8, np.uint8) or not (np.isfinite(scale) & (scale > 0)).all():
        raise Unsupported("its weights have no scale above zero, or are not int8 or uint8")
    spread = [1] * real.ndim
    if scale.size > 1:
        spread[int(node.attributes.get("axis", 1))] = scale.size
    limits = np.iinfo(zero.dtype)
    shifted = np.rint(real / scale.reshape(spread if scale.size > 1 else ()))
    shifted += zero.astype(np.float32).reshape(spread if zero.size > 1 else ())
    return np.clip(shifted, limits.min, limits.max).astype(zero.dtype)


def dequantize_linear(b: Builder, node: Node) -> None:
    """A quantized tensor seen as real numbers, or quantized weights."""
    source, made = node.inputs[0], node.outputs[0]
    if source in b.constants:
        if node.attributes.get("block_size", 0):
            raise Unsupported("its weights are quantized in blocks")
        stored = b.constants[source]
        zero = b.constants[node.inputs[2]] if len(node.inputs) > 2 else np.zeros(1, stored.dtype)
        scale = b.constant(node.inputs[1], "scale")
        b.weights[made] = (stored, scale, zero, int(node.attributes.get("axis", 1)))
        axis = int(node.attributes.get("axis", 1))
        spread = [1] * stored.ndim
        if scale.size > 1:
            spread[axis] = scale.size
        shifted = stored.astype(np.int32) - zero.astype(np.int32).reshape(
            spread if zero.size > 1 else [1] * stored.ndim
        )
        with np.errstate(over="ignore", invalid="ignore"):
            b.constants[made] = shifted.astype(np.float32) * scale.reshape(spread)
        return
    held = b.held(source)
    # without a zero point, the type is that of what is dequantized
    signed = b.types.get(source) == np.int8
    if held in b.tensors or held in b.late:
        signed = not b.quantization_of(held).unsigned
    quantization = b.quantization(*_parameters(node), signed=signed)
    if held in b.late:
        b.real[made] = held
        _pass_on(b, held, made, quantization)
        return
    if source in b.pending:
        b.pending[made], b.shapes[made] = node, b.shapes[source]
        return
    b.entry(source, quantization)
    b.real[made] = source
    b.shapes[made] = b.shapes[source]


def _pass_on(b: Builder, held: str, made: str, quantization: ir.Quantization) -> None:
    """Let `made` be the tensor `held`, which no layer of the NPU can read as it is."""
    if b.late[held].quantization != quantization:
        raise Unsupported(f"it requantizes a tensor; {b.late[held].reason}")
    if made not in b.real:
        b.make_alias(made, held, b.shapes[held])
    if held in b.permuted:
        b.permuted[made] = b.permuted[held]
    b.set_shape(made, b.shapes[held])
