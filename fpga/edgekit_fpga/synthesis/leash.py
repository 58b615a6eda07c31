"""Becomes a program that the kernel ends as soon as the process that started it is gone.

    python -I leash.py PARENT PROGRAM ARGUMENT...

Yosys and nextpnr take a core for minutes and tell nobody. Whoever starts them ends them when it
can; where it cannot, because it is killed itself, this does (Linux alone knows how). It is run as a
file, and not between fork and exec of its parent, which has threads.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main(arguments: list[str]) -> None:
    """Become the program that `arguments` name behind the parent's process id."""
    parent, program = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it was gone before it could be asked for
            return
    os.execv(program[0], program)  # noqa: S606 the program stands in the build plan


if __name__ == "__main__":
    main(sys.argv[1:])
