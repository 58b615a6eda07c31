"""The command `edgekit NOUN VERB`; one file per noun.

Heavy imports stay inside the commands: `edgekit --help` must answer in under 0.3 s.
"""

from edgekit.warm.client import hand_over


def main() -> None:
    """Run the command, in a fork of the warm server where there is one."""
    hand_over()
    from edgekit.cli.app import main as command

    command()


__all__ = ["main"]
