# SPDX-License-Identifier: GPL-2.0-only
"""Journeys to and from files. Knows the trace's shape, not where journeys come from."""
