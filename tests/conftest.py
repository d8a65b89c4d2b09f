"""Settings that hold for every test."""

from __future__ import annotations

import os

from hypothesis import settings

# A busy machine is no failure: hypothesis' deadline would make it one.
settings.register_profile("codesign", deadline=None)
settings.load_profile("codesign")

# Ray: no call home, and no warning about its own default for accelerators.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
