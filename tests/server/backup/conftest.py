"""Commands, as the tests of the command line run them."""

from tests.client.cli.conftest import command

__all__ = ["command"]
