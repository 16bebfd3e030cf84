"""Settings shared by the tests: hypothesis is repeatable and not timed; no graph is kept from run to run."""

import os

from hypothesis import HealthCheck, settings

os.environ["PHAROS_CACHE"] = "off"

settings.register_profile(
    "repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
