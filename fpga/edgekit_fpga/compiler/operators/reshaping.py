"""Operators that only rename elements, or reorder them: Flatten, Reshape, Squeeze, Transpose."""

import math
from typing import Any

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported
from edgekit_fpga.compiler.operators.postponing import postpone
from edgekit_fpga.cpu import CpuOp

Shape = tuple[int, ...]


def reshape(b: Builder, node: Node) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze, Identity: no work, or a Flatten before dense layers."""
    name, made = node.inputs[0], node.outputs[0]
    if name not in b.shapes:
        raise Unsupported(f"its input {name} comes from nowhere")
    shape = _new_shape(b, node, b.shapes[name])
    if _on_cpu(b, node, "Reshape", shape, {"shape": list(shape)}):
        return
    order = (0, 1, 2)
    held = b.real.get(name, name)
    if held in b.permuted:
        held, order = b.permuted[held]
    if b.held(held) in b.late:
        b.reorder_late(node, held, b.quantized_name(node), shape, {"shape": list(shape)})
        return
    held = b.source(held)
    tensor = b.tensors[held]
    view = b.quantized_name(node)
    if order == (0, 1, 2) and len(shape) <= 3 and (*shape, 1, 1, 1)[:3] == tensor.shape:
        b.make_alias(view, held, shape)
    elif (*shape, 1, 1)[1:3] == (1, 1) and len(shape) <= 3:
        b.add_tensor(view, shape, tensor.quantization)
        b.layers.append(ir.Flatten(node.name, held, view, order=order))
    elif not _before(b, name, held, "Reshape", view, shape, {"shape": list(shape)}):
        b.reorder_late(node, held, view, shape, {"shape": list(shape)})
    b.shapes[made] = shape


def transpose(b: Builder, node: Node) -> None:
    """Transpose that is only a layout: of a vector, before a Flatten, or at either end."""
    name, made = node.inputs[0], node.outputs[0]
    if name in b.weights:
        _transpose_weights(b, node)
        return
    if name not in b.shapes:
        raise Unsupported(f"its input {name} comes from nowhere")
    rank = len(b.shapes[name]) + 1
    order = [int(axis) for axis in node.attributes.get("perm", range(rank)[::-1])]
    if order[0] != 0:
        raise Unsupported("it moves the batch")
    shape = tuple(b.shapes[name][axis - 1] for axis in order[1:])
    attributes = {"perm": order}
    if _on_cpu(b, node, "Transpose", shape, attributes):
        return
    if b.held(name) in b.late:
        _transpose_again(b, node, b.real.get(name, name), shape, order)
        return
    held = b.source(name)
    view = b.quantized_name(node)
    before = [size for size in b.shapes[name] if size > 1]
    b.shapes[made] = shape
    if (
        before == [size for size in shape if size > 1]
        and (*shape, 1, 1)[:3] == b.tensors[held].shape
    ):
        b.make_alias(view, held, shape)
    elif not _before(b, name, held, "Transpose", view, shape, attributes):
        moves = [axis - 1 for axis in order[1:]]
        full = (*moves, *range(len(moves), 3))
        b.permuted[view] = (held, (full[0], full[1], full[2]))
        # by the name it is read by: the tensor behind it may have another ONNX shape
        b.reorder_late(node, b.real.get(name, name), view, shape, attributes)


def _transpose_again(b: Builder, node: Node, name: str, shape: Shape, order: list[int]) -> None:
    """Two that cancel leave the tensor as it lies in memory; others wait for the CPU."""
    view = b.quantized_name(node)
    if name in b.permuted:
        held, first = b.permuted[name]
        moves = [axis - 1 for axis in order[1:]]
        moves += range(len(moves), 3)
        both = first[moves[0]], first[moves[1]], first[moves[2]]
        if both == (0, 1, 2):
            b.make_alias(view, held, shape)
            return
        b.permuted[view] = held, both
    b.reorder_late(node, name, view, shape, {"perm": order})


def _transpose_weights(b: Builder, node: Node) -> None:
    """Quantized weights, turned before a layer takes them."""
    stored, scale, zero, axis = b.weights[node.inputs[0]]
    order = [int(i) for i in node.attributes.get("perm", range(stored.ndim)[::-1])]
    turned = stored.transpose(order), scale, zero, order.index(axis % stored.ndim)
    b.weights[node.outputs[0]] = turned
    b.constants[node.outputs[0]] = b.constants[node.inputs[0]].transpose(order)


def _on_cpu(
    b: Builder, node: Node, operator: str, shape: Shape, attributes: dict[str, Any]
) -> bool:
    """Whether the node works on floats before the NPU, or on pending ones behind it."""
    name, made = node.inputs[0], node.outputs[0]
    if name in b.types:
        b.types[made], b.shapes[made] = b.types[name], shape
        b.before.append(CpuOp(operator, (name,), made, attributes))
        return True
    if name in b.pending:
        postpone(b, node)
        b.shapes[made] = shape
        return True
    return False


def _before(
    b: Builder,
    name: str,
    held: str,
    operator: str,
    made: str,
    shape: Shape,
    attributes: dict[str, Any],
) -> bool:
    """Move the node before the NPU, where what it reorders is an input of the NPU."""
    if held not in b.entries or b.shapes[held] != b.shapes[name]:
        return False
    b.before.append(CpuOp(operator, (held,), made, attributes))
    b.add_tensor(made, shape, b.tensors[held].quantization)
    b.entries.append(made)
    return True


def _new_shape(b: Builder, node: Node, shape: Shape) -> Shape:
    if node.operator in ("Identity", "Dropout"):
        return shape
    if node.operator == "Flatten":
        if int(node.attributes.get("axis", 1)) % (len(shape) + 1) != 1:
            raise Unsupported("it flattens the batch")
        return (math.prod(shape),)
    if node.operator == "Reshape":
        return _reshaped(node, [int(size) for size in b.constant(node.inputs[1], "shape")], shape)
    axes: Any = node.attributes.get("axes")
    if len(node.inputs) > 1:
        axes = b.constant(node.inputs[1], "axes")
    if node.operator == "Squeeze":
        rank = len(shape) + 1
        gone = (
            {i for i, size in enumerate(shape, 1) if size == 1}
            if axes is None
            else {int(axis) % rank for axis in axes}
        )
        if 0 in gone or any(shape[axis - 1] != 1 for axis in gone):
            raise Unsupported("it squeezes the batch")
        return tuple(size for i, size in enumerate(shape, 1) if i not in gone)
    full = [1, *shape]
    rank = len(full) + len(axes)
    places = sorted(int(axis) % rank for axis in axes)
    if 0 in places:
        raise Unsupported("it adds a dimension before the batch")
    for place in places:
        full.insert(place, 1)
    return tuple(full[1:])


def _reshaped(node: Node, wanted: list[int], shape: Shape) -> Shape:
    full = [1, *shape]
    keeps = not node.attributes.get("allowzero", 0)
    sizes = [full[i] if size == 0 and keeps else size for i, size in enumerate(wanted)]
    if len(sizes) < 2 or sizes[0] not in (1, -1) or sizes.count(-1) > 1:
        raise Unsupported(f"it reshapes the batch: {wanted}")
    rest = sizes[1:]
    if -1 in rest:
        known = -math.prod(rest)
        rest[rest.index(-1)] = math.prod(shape) // max(known, 1)
    if math.prod(rest) != math.prod(shape):
        raise Unsupported(f"it reshapes the batch: {wanted}")
    return tuple(rest)
