"""What each ONNX operator becomes; one function an operator or a family of them."""

from collections.abc import Callable

from edgekit_fpga.compiler.builder import Builder, Node
from edgekit_fpga.compiler.operators.borders import dequantize_linear, quantize_linear
from edgekit_fpga.compiler.operators.elementwise import qlinear_add, qlinear_mul, qlinear_table
from edgekit_fpga.compiler.operators.floats import FLOAT_OPERATORS
from edgekit_fpga.compiler.operators.joining import concat, qlinear_concat
from edgekit_fpga.compiler.operators.linear import qgemm, qlinear_conv, qlinear_matmul
from edgekit_fpga.compiler.operators.moving import pad, resize, slice_, split
from edgekit_fpga.compiler.operators.pooling import (
    global_average_pool,
    max_pool,
    qlinear_average_pool,
)
from edgekit_fpga.compiler.operators.postponing import postpone
from edgekit_fpga.compiler.operators.reshaping import reshape, transpose
from edgekit_fpga.compiler.tables import ELEMENTWISE

Handler = Callable[[Builder, Node], None]


OPERATORS: dict[str, Handler] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QGemm": qgemm,
    "QLinearMatMul": qlinear_matmul,
    "QLinearAdd": qlinear_add,
    "QLinearSigmoid": qlinear_table,
    "QLinearLeakyRelu": qlinear_table,
    "QLinearGlobalAveragePool": global_average_pool,
    "QLinearAveragePool": qlinear_average_pool,
    "QLinearMul": qlinear_mul,
    "QLinearConcat": qlinear_concat,
    "MaxPool": max_pool,
    "Pad": pad,
    "Resize": resize,
    "Upsample": resize,
    "Slice": slice_,
    "Split": split,
    "Transpose": transpose,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"), reshape),
    **dict.fromkeys(FLOAT_OPERATORS, postpone),
    **dict.fromkeys(ELEMENTWISE, postpone),
    "Softmax": postpone,
    "Concat": concat,
}
