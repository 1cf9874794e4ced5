from __future__ import annotations

from copy import deepcopy

import pytest

from tests.vm.governance.council import Council


@pytest.fixture(scope="session")
def founded() -> Council:
    return Council()


@pytest.fixture
def council(founded: Council) -> Council:
    return deepcopy(founded)
