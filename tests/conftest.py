"""One profile for all property tests: no wall-clock deadline, for load is no property of the code, and the same
examples in every run, so that a failure is a failure of the change and can be had again. Long tests explore by chance.
"""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("exploring" if config.getoption("-m") == "long" else "fixed")
