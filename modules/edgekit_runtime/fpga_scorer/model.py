"""An FPGA package as a model that doors can ask."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekit_fpga.driver import DeviceError, Driver, FpgaError, InputError, Package
from edgekit_runtime.errors import ModelError, RequestError, Unavailable
from edgekit_runtime.serving.models import Model
from edgekit_runtime.serving.tensors import DATATYPES, Array, TensorSpec


@dataclass(frozen=True)
class FpgaModel:
    """A package on a driver; it has run once, so it is known to fit what it runs on.

    Attributes:
        on_cycles: told of the cycles of each batch, where the backend counts them.
    """

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    package: Package
    driver: Driver
    on_cycles: Callable[[Model, int], None] = field(repr=False)
    platform: str = "edgekit_npu"

    @classmethod
    def load(
        cls,
        name: str,
        version: str,
        package: Package,
        driver: Driver,
        on_cycles: Callable[[Model, int], None],
    ) -> "FpgaModel":
        """Run a package on zeros, which tells what it gives and that it fits.

        Raises:
            ModelError: it does not run on this driver.
            Unavailable: the NPU or the link to it fails at present.
        """
        wanted = package.manifest["inputs"]
        zeros: dict[str, Any] = {
            entry["name"]: np.zeros((1, *entry["shape"]), entry["type"]) for entry in wanted
        }
        try:
            made = driver.run(package, zeros).outputs
        except DeviceError as error:
            raise Unavailable(f"{name}:{version} cannot be tried: {error}", error.hint) from error
        except FpgaError as error:
            raise ModelError(f"{name}:{version} does not run: {error}", error.hint) from error
        return cls(
            name,
            version,
            tuple(_spec(entry["name"], zeros[entry["name"]]) for entry in wanted),
            tuple(_spec(output, array) for output, array in made.items()),
            package,
            driver,
            on_cycles,
        )

    def run(self, feed: Mapping[str, Array], names: Sequence[str]) -> Sequence[Array]:
        """The outputs called `names` for inputs that fit the model.

        Raises:
            RequestError: no elements, different batches, or values that are not finite.
            Unavailable: the NPU or the link to it fails at present.
        """
        try:
            result = self.driver.run(self.package, feed)
        except InputError as error:
            raise RequestError(str(error)) from error
        except FpgaError as error:
            raise Unavailable(str(error), error.hint) from error
        if result.cycles:
            self.on_cycles(self, sum(result.cycles))
        return [result.outputs[name] for name in names]


def _spec(name: str, array: Array) -> TensorSpec:
    kind = str(array.dtype)
    return TensorSpec(name, DATATYPES.get(kind, kind), (-1, *array.shape[1:]))
