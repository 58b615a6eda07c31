"""Where every tensor lies in activation memory, by lifetime, first fit."""

from collections.abc import Mapping

from edgekit_fpga.boards import Board
from edgekit_fpga.compiler import ir
from edgekit_fpga.cycles import ceil_div
from edgekit_fpga.errors import BoardError
from edgekit_fpga.program import Placement


def lifetimes(graph: ir.Graph) -> dict[str, tuple[int, int]]:
    """Tensor -> (index of the layer that writes it first, index of the last that reads it).

    Only tensors that are no views count; their spans cover those of all their views. Inputs are
    written before layer 0, so at -1; outputs are read after the last layer.
    """
    spans = dict.fromkeys(graph.inputs, (-1, -1))

    def extend(tensor: str, index: int) -> None:
        root = graph.root(tensor)[0]
        first = spans.get(root, (index, index))[0]
        spans[root] = (first, index)

    for index, layer in enumerate(graph.layers):
        for name in (*layer.inputs, layer.output):
            extend(name, index)
    for name in graph.outputs:
        extend(name, len(graph.layers))
    return spans


def packable(graph: ir.Graph, layer: ir.Layer, board: Board) -> bool:
    """Whether a convolution gains from, and fits, the patch buffer."""
    array = board.array
    if not isinstance(layer, ir.Conv) or layer.groups != 1 or layer.window.dilation != (1, 1):
        return False
    channels = graph.tensors[layer.input].shape[0]
    patch = layer.window.taps * channels
    whole = channels % array.output_lanes == 0 and graph.tensors[layer.input].view is None
    dense_input = whole or (layer.input in graph.inputs and graph.root(layer.input)[1] == 0)
    steps = layer.window.taps * ceil_div(channels, array.reduction_lanes)
    return (
        dense_input
        and patch <= array.patch_bytes
        and ceil_div(patch, array.reduction_lanes) < steps
    )


def allocate(graph: ir.Graph, board: Board) -> dict[str, Placement]:
    """A placement for every tensor that lies in memory.

    Raises:
        BoardError: they do not fit the board's activation memory.
    """
    spans = lifetimes(graph)
    sizes = {name: _unplaced(graph, name, board) for name in spans}
    best: dict[str, Placement] | None = None
    limit = board.memory.activation_granules
    # large first packs tightest most often; in order of creation is the other good habit
    for order in (
        sorted(spans, key=lambda name: (-_granules(sizes[name], board), spans[name])),
        sorted(spans, key=lambda name: spans[name]),
    ):
        placed, top = _first_fit(order, spans, sizes, board)
        if top <= limit:
            best = placed
            break
    if best is None:
        need = top * board.array.output_lanes * board.array.banks
        have = limit * board.array.output_lanes * board.array.banks
        raise BoardError(
            f"activations need {need} bytes, {board.name} has {have}",
            "use a larger board or a smaller input",
        )
    for tensor in graph.tensors.values():
        root, start = graph.root(tensor.name)
        if root in best and tensor.view:
            best[tensor.name] = _view(best[root], tensor, start // board.array.output_lanes)
    return best


def _view(root: Placement, tensor: ir.Tensor, first: int) -> Placement:
    """The placement of some of a tensor's channels, `first` granules into each pixel."""
    channels, height, width = tensor.shape
    return Placement(
        root.base + first, root.row, root.pixel, root.rotation, channels, height, width
    )


def _first_fit(
    order: list[str],
    spans: Mapping[str, tuple[int, int]],
    sizes: Mapping[str, Placement],
    board: Board,
) -> tuple[dict[str, Placement], int]:
    placed: dict[str, Placement] = {}
    top = 0
    for name in order:
        size = _granules(sizes[name], board)
        taken = sorted(
            (other.base, other.base + _granules(other, board))
            for held, other in placed.items()
            if spans[held][0] <= spans[name][1] and spans[name][0] <= spans[held][1]
        )
        base = 0
        for start, end in taken:
            if base + size <= start:
                break
            base = max(base, end)
        made = sizes[name]
        placed[name] = Placement(
            base, made.row, made.pixel, made.rotation, made.channels, made.height, made.width,
            made.dense,
        )  # fmt: skip
        top = max(top, base + size)
    return placed, top


def _unplaced(graph: ir.Graph, name: str, board: Board) -> Placement:
    channels, height, width = graph.tensors[name].shape
    lanes = board.array.output_lanes
    users = graph.users(name)
    dense = (
        name in graph.inputs
        and name not in graph.outputs
        and channels % lanes != 0
        and bool(users)
        and not any(tensor.view and tensor.view[0] == name for tensor in graph.tensors.values())
        and all(packable(graph, layer, board) and layer.inputs == (name,) for layer in users)
    )
    pixel = ceil_div(channels, lanes)
    row = ceil_div(width * channels, lanes) if dense else width * pixel
    return Placement(0, row, pixel, 0, channels, height, width, dense)


def _granules(placement: Placement, board: Board) -> int:
    """Granules a tensor takes in each bank."""
    return ceil_div(placement.height + placement.rotation, board.array.banks) * placement.row
