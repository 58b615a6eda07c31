"""What the simulated host does over AXI, in cocotb: it runs inside the simulator's process."""

import itertools
import os
import random
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

CONTROL, STATUS, CYCLES, TARGET, TARGET_ADDRESS, READ_ADDRESS, READ_COUNT = range(0x24, 0x40, 4)


class Host:
    """The NPU's registers and streams."""

    def __init__(self, dut, seed):
        self.dut = dut
        self.control = AxiLiteMaster(
            AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        self.source = AxiStreamSource(
            AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        self.sink = AxiStreamSink(
            AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, dut.aresetn, reset_active_level=False
        )
        draw = random.Random(seed)
        for port in (self.source, self.sink):
            port.set_pause_generator(self._pauses(draw))
        write, read = self.control.write_if, self.control.read_if
        for channel in (write.aw_channel, write.w_channel, write.b_channel):
            channel.set_pause_generator(self._pauses(draw))
        for channel in (read.ar_channel, read.r_channel):
            channel.set_pause_generator(self._pauses(draw))

    @staticmethod
    def _pauses(draw):
        return (draw.random() < 0.4 for _ in itertools.count())

    async def start(self):
        cocotb.start_soon(Clock(self.dut.aclk, 10, "ns").start())
        self.dut.aresetn.value = 0
        for _ in range(5):
            await RisingEdge(self.dut.aclk)
        self.dut.aresetn.value = 1
        for _ in range(3):
            await RisingEdge(self.dut.aclk)

    async def get(self, address):
        return int.from_bytes((await self.control.read(address, 4)).data, "little")

    async def put(self, address, value):
        return (await self.control.write(address, value.to_bytes(4, "little"))).resp

    async def load(self, memory, address, data):
        assert await self.put(TARGET, memory) == AxiResp.OKAY
        assert await self.put(TARGET_ADDRESS, address) == AxiResp.OKAY
        await self.source.send(AxiStreamFrame(data))
        await self.source.wait()

    async def read(self, address, count):
        await self.put(READ_ADDRESS, address)
        await self.put(READ_COUNT, count)
        return bytes((await self.sink.recv()).tdata)


@cocotb.test()
async def registers_tell_what_the_npu_is(dut):
    host = Host(dut, 1)
    await host.start()
    assert await host.get(0x00) == 0x4E505531
    assert await host.get(0x04) == int(os.environ["NPU_VERSION"])
    assert await host.get(0x08) == int(os.environ["NPU_ARRAY"])
    assert await host.get(STATUS) & 7 == 0


@cocotb.test()
async def what_cannot_be_is_answered_with_an_error(dut):
    host = Host(dut, 2)
    await host.start()
    assert (await host.control.read(0x40, 4)).resp == AxiResp.SLVERR
    assert await host.put(0x40, 1) == AxiResp.SLVERR
    assert await host.put(CYCLES, 1) == AxiResp.SLVERR
    assert (await host.control.write(TARGET, b"\1")).resp == AxiResp.SLVERR  # not a whole word
    assert await host.put(TARGET, 3) == AxiResp.OKAY
    assert await host.get(TARGET) == 3


@cocotb.test()
async def a_job_gives_its_answer_twice(dut):
    """Load a program and tensors, run and read back twice; controls are refused meanwhile."""
    job = np.load(Path(os.environ["NPU_JOB"]))
    host = Host(dut, int(os.environ["NPU_SEED"]))
    await host.start()
    for index in range(int(job["loads"])):
        memory, address = job[f"place{index}"].tolist()
        await host.load(memory, address, job[f"data{index}"].tobytes())
    cycles = []
    for _ in range(2):
        stream = job["stream"].tobytes()
        assert await host.put(CONTROL, 1) == AxiResp.OKAY
        if stream:
            await host.source.send(AxiStreamFrame(stream))
        assert await host.put(CONTROL, 1) == AxiResp.SLVERR
        assert await host.put(TARGET_ADDRESS, 0) == AxiResp.SLVERR
        while (status := await host.get(STATUS)) & 1:
            pass
        assert status & 2 == 0
        cycles.append(await host.get(CYCLES))
        for index in range(int(job["reads"])):
            address, count = job[f"read{index}"].tolist()
            assert await host.read(address, count) == job[f"expected{index}"].tobytes()
    if not job["stream"].size:
        assert cycles[0] == cycles[1] == int(job["cycles"])
