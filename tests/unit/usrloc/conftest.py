"""What several tests of usrloc begin with: an empty picture."""

import pytest

from tests.unit.usrloc.world import World


@pytest.fixture
def world() -> World:
    return World()
