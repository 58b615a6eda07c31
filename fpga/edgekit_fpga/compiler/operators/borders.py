"""QuantizeLinear and DequantizeLinear: where float and quantized tensors meet."""

import numpy as np

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported, quantization_json
from edgekit_fpga.compiler.operators.elementwise import table_layer
from edgekit_fpga.compiler.operators.floats import lower
from edgekit_fpga.compiler.operators.postponing import ends_on_cpu
from edgekit_fpga.compiler.tables import requantize_table
from edgekit_fpga.cpu import CpuOp


def quantize_linear(b: Builder, node: Node) -> None:
    """A float tensor becomes quantized: at the pipeline's start, or after a float island."""
    source, made = node.inputs[0], node.outputs[0]
    quantization = b.quantization(node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")
    if source in b.types:
        b.before.append(CpuOp("QuantizeLinear", (source,), made, quantization_json(quantization)))
        b.add_tensor(made, b.shapes[source], quantization)
        b.entries.append(made)
    elif b.real.get(source) in b.late:
        _pass_on(b, b.real[source], made, quantization)
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


def dequantize_linear(b: Builder, node: Node) -> None:
    """A quantized tensor seen as real numbers, or quantized weights."""
    source, made = node.inputs[0], node.outputs[0]
    if source in b.constants:
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
        b.constants[made] = shifted.astype(np.float32) * scale.reshape(spread)
        return
    quantization = b.quantization(node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")
    held = b.alias.get(source, source)
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
    """Let `made` be the reordered tensor `held`, which no layer of the NPU can read as it is."""
    base = held
    while base in b.late:
        base = b.late[base][1].inputs[0]
        base = b.alias.get(base, base)
    if b.tensors[base].quantization != quantization:
        raise Unsupported("it requantizes a tensor that was reordered")
    if made not in b.real:
        b.make_alias(made, held, b.shapes[held])
    if held in b.permuted:
        b.permuted[made] = b.permuted[held]
    b.set_shape(made, b.shapes[held])
