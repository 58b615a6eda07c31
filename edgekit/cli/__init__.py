"""The command `edgekit NOUN VERB`; one file per noun.

Heavy imports stay inside the commands: `edgekit --help` must answer in under 0.3 s.
"""

from edgekit.cli.app import main

__all__ = ["main"]
