"""One profile for all property tests: no wall-clock deadline, for load is no property of the code, and the same
examples in every run, so that a failure is a failure of the change and can be had again. Long tests explore by chance.
"""

import re
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])


LONG_ASKED_FOR = re.compile(r"(?<!not )\blong\b")
"""In an expression of marks: "long", "long and not process", but not "not process and not long"."""


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("exploring" if LONG_ASKED_FOR.search(config.getoption("-m")) else "fixed")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A command is a process's own and sets what the signals do that end it; the tests are many in one."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
