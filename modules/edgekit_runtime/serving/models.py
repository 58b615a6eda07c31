"""The models a scorer serves, and one inference whatever door it came through."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from edgekit_runtime.errors import ModelNotFound, RequestError
from edgekit_runtime.serving.tensors import Array, TensorSpec


class Model(Protocol):
    """A loaded version of a model; it never changes. `run` may be called by several threads."""

    @property
    def name(self) -> str:
        """What requests call it."""
        ...

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def platform(self) -> str:
        """What runs it, as its metadata says."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes, all of it."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""
        ...

    def run(self, feed: Mapping[str, Array], names: Sequence[str]) -> Sequence[Array]:
        """The outputs called `names` for the inputs in `feed`, which fit `inputs`.

        Raises:
            RequestError: the model refuses these values.
            Unavailable: what runs it fails; the same request may succeed later.
        """
        ...


class Models:
    """The models served now, by name.

    A request finds its model once and keeps it, so replacing one is a single step that no request
    sees half done: those under way end with the version they began with.
    """

    def __init__(self, models: Sequence[Model] = ()) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[Model]:
        return iter(list(self._models.values()))

    def __len__(self) -> int:
        return len(self._models)

    def put(self, model: Model) -> None:
        """Serve a model, in place of the one of that name."""
        self._models = {**self._models, model.name: model}

    def remove(self, name: str) -> None:
        """Serve no model of that name any more."""
        self._models = {key: model for key, model in self._models.items() if key != name}

    def find(self, name: str, version: str = "") -> Model:
        """The model called `name`; where there is one only, the empty name stands for it.

        Raises:
            RequestError: no name, and several models.
            ModelNotFound: no such model, or another version of it.
        """
        models = self._models
        if not name and len(models) == 1:
            (name,) = models
        if not name and models:
            raise RequestError(f"name a model: {_listed(models)}")
        model = models.get(name)
        if model is None or version not in ("", model.version):
            raise ModelNotFound(f"no such model here; this is {_listed(models) or 'none yet'}")
        return model


def describe(model: Model) -> dict[str, Any]:
    """The model's metadata, as the Open Inference Protocol has it."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": model.platform,
        "inputs": [spec.describe() for spec in model.inputs],
        "outputs": [spec.describe() for spec in model.outputs],
    }


def inputs_of(model: Model, names: Sequence[str]) -> dict[str, TensorSpec]:
    """The specifications of a request's inputs, by name.

    Raises:
        RequestError: one is missing, unknown, or there twice.
    """
    specs = {spec.name: spec for spec in model.inputs}
    if missing := [name for name in specs if name not in names]:
        raise RequestError(f"input {missing[0]!r} is missing")
    if unknown := set(names) - set(specs):
        raise RequestError(f"no input {min(unknown)!r}; this model takes {', '.join(specs)}")
    if len(names) != len(specs):
        raise RequestError("inputs has a name twice")
    return specs


def outputs_of(model: Model, names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """The specifications of the outputs a request asks for; no names stand for all.

    Raises:
        RequestError: one is unknown, or there twice.
    """
    if not names:
        return model.outputs
    specs = {spec.name: spec for spec in model.outputs}
    if unknown := set(names) - set(specs):
        raise RequestError(f"no output {min(unknown)!r}; this model gives {', '.join(specs)}")
    if len(names) != len(set(names)):
        raise RequestError("outputs has a name twice")
    return tuple(spec for spec in model.outputs if spec.name in names)


def run(
    model: Model, feed: Mapping[str, Array], wanted: Sequence[TensorSpec]
) -> list[tuple[TensorSpec, Array]]:
    """One inference: the wanted outputs with their arrays."""
    arrays = model.run(feed, [spec.name for spec in wanted])
    return list(zip(wanted, arrays, strict=True))


def _listed(models: Mapping[str, Model]) -> str:
    return ", ".join(f"{model.name}, version {model.version}" for model in models.values())
