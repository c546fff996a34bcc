"""Services of stores for each test, as in the tests of stores."""

from tests.server.features.stores.conftest import shop

__all__ = ["shop"]
