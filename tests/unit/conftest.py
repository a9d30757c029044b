# SPDX-License-Identifier: GPL-2.0-only
"""How hypothesis runs: what a test costs is no finding, the machine may have other things to do."""

from hypothesis import HealthCheck, settings

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")
