"""One driver, several backends: the same answers, and errors that say what is wrong."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from edgekit_fpga import compile_model, isa, run
from edgekit_fpga.boards import load_board
from edgekit_fpga.driver import (
    BoardError,
    DeviceError,
    Driver,
    Hardware,
    Interpreter,
    LinkError,
    Npu,
    Register,
    open_driver,
    read_package,
)
from edgekit_fpga.driver.port import ID
from edgekit_fpga.simulate.npu import measure
from tests.edgekit_fpga.graphs import small_net

simulated = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def package():
    return compile_model(small_net(3))


@pytest.fixture(scope="module")
def images():
    return {"x": np.random.default_rng(4).normal(size=(3, 1, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("backend", ["interpreter", pytest.param("rtl", marks=simulated)])
@pytest.mark.parametrize("board", ["ecp5-85f", "ice40-up5k"])
def test_every_backend_gives_the_graphs_outputs(backend, board, images):
    package = compile_model(small_net(3), board)
    with open_driver(backend) as driver:
        for _ in range(2):
            result = driver.run(package, images)
            assert driver.backend == backend
            expected = run(package, images, exact=True)
            assert {name: made.tolist() for name, made in result.outputs.items()} == {
                name: made.tolist() for name, made in expected.items()
            }


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_cycles_are_those_of_the_core_alone(package, images):
    stored = {"x_quantized": np.zeros((1, 1, 8, 8), np.int8)}
    alone = measure(package.program, package.board, stored, ())
    with open_driver("rtl") as driver:
        assert driver.run(package, images).cycles == alone.cycles * 3


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_packages_take_turns_on_one_npu(package, images):
    """Threads with different packages: each answer is that of its own package."""
    packages = [package, compile_model(small_net(5))]
    expected = [run(each, images)["y"].tolist() for each in packages]
    wrong = []

    def score(driver, number):
        made = [driver.run(packages[number], images).outputs["y"].tolist() for _ in range(5)]
        wrong.extend(number for outputs in made if outputs != expected[number])

    with open_driver("rtl") as driver:
        threads = [threading.Thread(target=score, args=(driver, n)) for n in (0, 1, 0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert expected[0] != expected[1]
    assert wrong == []


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_a_simulator_that_dies_is_an_error_and_the_next_run_has_another(package, images):
    from edgekit_fpga.driver.simulated import start

    started = []

    def start_and_note(board):
        started.append(start(board))
        return started[-1]

    with Driver(Hardware("rtl", start_and_note)) as driver:
        first = driver.run(package, images)
        started[0]._port._line._process.kill()
        with pytest.raises(LinkError, match="the simulator has ended"):
            driver.run(package, images)
        assert driver.run(package, images).outputs["y"].tolist() == first.outputs["y"].tolist()
    assert len(started) == 2


class Registers:
    """A port to something that has registers and no more."""

    def __init__(self, **values):
        board = load_board("ecp5-85f")
        array, memory = board.array, board.memory
        self.closed = False
        self.values = {
            Register.ID: ID,
            Register.VERSION: isa.ISA_VERSION,
            Register.ARRAY: array.reduction_lanes | array.output_lanes << 8,
            Register.SHAPE: array.banks | array.window_taps << 8 | array.patch_bytes << 16,
            Register.GRANULES: memory.activation_granules,
            Register.WEIGHT_WORDS: memory.weight_words,
            Register.REQUANT_TILES: memory.requant_tiles,
            Register.TABLE_ENTRIES: memory.table_entries,
            Register.INSTRUCTIONS: memory.instructions,
            Register.STATUS: 0,
            Register.CYCLES: 0,
        } | {Register[name]: value for name, value in values.items()}

    def read(self, register):
        return self.values[register]

    def write(self, register, value):
        self.values[register] = value

    def send(self, data):
        pass

    def receive(self, words):
        return bytes(4 * words)

    def close(self):
        self.closed = True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ID": 0xFFFFFFFF}, "no NPU answers on the link: its id reads 0xffffffff"),
        ({"VERSION": 9}, "the NPU has instruction set 9"),
        ({"STATUS": 2}, "the NPU refused the program"),
    ],
)
def test_an_npu_that_is_none_is_refused_and_its_link_closed(package, images, values, message):
    port = Registers(**values)
    driver = Driver(Hardware("board", lambda _board: Npu(port)))
    with pytest.raises(DeviceError, match=message):
        driver.run(package, images)
    assert port.closed


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ARRAY": 0x0410}, "output_lanes 8, the NPU here has 4"),
        ({"WEIGHT_WORDS": 1000}, "weight_words 2560, the NPU here has 1000"),
    ],
)
def test_a_package_for_another_array_is_refused(package, images, values, message):
    driver = Driver(Hardware("board", lambda _board: Npu(Registers(**values))))
    with pytest.raises(BoardError, match=message):
        driver.run(package, images)


def test_larger_memories_fit():
    Npu(Registers(WEIGHT_WORDS=1 << 20, GRANULES=1 << 14)).check(load_board("ecp5-85f"))


def test_a_program_that_does_not_end_is_an_error(package, images):
    class Stuck(Registers):
        def read(self, register):
            if register == Register.CYCLES:
                self.values[register] += 1000
            return self.values[register]

    driver = Driver(Hardware("board", lambda _board: Npu(Stuck(STATUS=1))))
    with pytest.raises(DeviceError, match="did not end the program in"):
        driver.run(package, images)


def test_the_interpreter_forgets_packages_nobody_has(images):
    driver, package = Driver(Interpreter()), compile_model(small_net(3))
    driver.run(package, images)
    gone = weakref.ref(package)
    del package
    gc.collect()
    assert gone() is None


def test_a_backend_that_cannot_be_is_refused():
    with pytest.raises(DeviceError, match="no backend is called 'gpu'"):
        open_driver("gpu")


def test_the_driver_brings_no_compiler(package, tmp_path):
    package.save(tmp_path / "net.npu")
    program = (
        "import sys, edgekit_fpga.driver as d;"
        f"d.read_package({str(tmp_path / 'net.npu')!r}); d.open_driver();"
        "print(sorted(m for m in sys.modules if m.startswith(('onnx', 'edgekit_fpga.compiler',"
        " 'edgekit_fpga.rtl', 'edgekit_fpga.simulate', 'subprocess'))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
    assert read_package(tmp_path / "net.npu").digest == package.digest
