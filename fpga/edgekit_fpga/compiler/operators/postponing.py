"""Nodes that wait: until a QuantizeLinear says what becomes of them, or for the CPU at an end."""

from edgekit_fpga.compiler.builder import Builder, Node, Unsupported, stage_attributes
from edgekit_fpga.cpu import STAGE_OPERATORS, CpuOp


def postpone(b: Builder, node: Node) -> None:
    """Keep a float node until a QuantizeLinear, or the end, says what becomes of it."""
    source = node.inputs[0]
    if source in b.types and node.operator in STAGE_OPERATORS:
        made = node.outputs[0]
        b.types[made] = b.types[source]
        b.shapes[made] = b.shapes[source]
        b.before.append(CpuOp(node.operator, (source,), made, stage_attributes(b, node)))
        return
    if not any(name in b.real or name in b.pending for name in node.inputs):
        raise Unsupported(f"its input {source} is not quantized")
    b.pending[node.outputs[0]] = node
    b.shapes[node.outputs[0]] = b.shapes[source]


def ends_on_cpu(b: Builder, name: str) -> bool:
    """Whether a pending float has passed an operator that only the stage behind the NPU has."""
    node = b.pending.get(name)
    while node is not None:
        if node.operator in ("Softmax", "QuantizeLinear"):
            return True
        node = b.pending.get(node.inputs[0])
    return False
