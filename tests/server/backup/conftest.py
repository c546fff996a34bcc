"""Commands, run as in the tests of the command line."""

from tests.client.cli.conftest import command

__all__ = ["command"]
