"""How often random quantizations have no exact constants, for sums, products and averages.

What float32 decides by chance, fixed point cannot follow: such a node is refused, or an average
computed elsewhere. Run from the checkout's root:

    python benchmarks/npu_refusals.py [--count 500]
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from edgekit_fpga.compiler import adds, multiplies
from edgekit_fpga.compiler.ir import Quantization
from edgekit_fpga.compiler.operators.pooling import average_constants

RANDOM = np.random.default_rng(0)


def quantization(scale: float, *, unsigned: bool) -> Quantization:
    """A quantization with this scale and any zero point."""
    return Quantization(np.float32(scale), int(RANDOM.integers(-128, 128)), unsigned)


def operands(factor: tuple[float, float], *, equal: bool) -> tuple[Quantization, ...]:
    """Two operands and a result; `factor` is the range of the result's scale to the larger one."""
    unsigned = bool(RANDOM.integers(2))
    one, two = RANDOM.uniform(0.01, 0.2, 2)
    if equal:
        one = two
    result = max(one, two) * (1 if equal else RANDOM.uniform(*factor))
    return tuple(quantization(scale, unsigned=unsigned) for scale in (one, two, result))


def added(equal: bool, minus: bool) -> bool:
    """Whether a random sum or difference has constants, in both orders of its operands."""
    three = operands((0.7, 2), equal=equal)
    orders = (False, True)
    return all(
        adds.adder("a", "b", *three, minus=minus, swapped=swapped) is not None for swapped in orders
    )


def multiplied() -> bool:
    """Whether a random product has constants."""
    one, two, _ = operands((1, 1), equal=False)
    scale = float(one.scale * two.scale) * RANDOM.uniform(30, 150)
    return multiplies.parts(one, two, quantization(scale, unsigned=one.unsigned)) is not None


def averaged(taps: int, equal: bool) -> bool:
    """Whether a random average of `taps` elements has constants."""
    one, _, result = operands((0.4, 1.1), equal=equal)
    return average_constants(one, result, taps) is not None


def main() -> None:
    """Print the share of each that has none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    kinds: list[tuple[str, Callable[[], bool]]] = [
        ("sum", partial(added, False, False)),
        ("sum, equal scales", partial(added, True, False)),
        ("difference", partial(added, False, True)),
        ("difference, equal scales", partial(added, True, True)),
        ("product", multiplied),
    ]
    for taps in (2, 3, 4, 6, 9, 16, 49):
        for equal in (False, True):
            name = f"average of {taps}" + ", equal scales" * equal
            kinds.append((name, partial(averaged, taps, equal)))
    for name, tried in kinds:
        refused = sum(not tried() for _ in range(count))
        print(f"{name:28}{100 * refused / count:>7.1f}% of {count}")


if __name__ == "__main__":
    main()
