# SPDX-License-Identifier: GPL-2.0-only
"""Tests that need no root, no network and no kernel, and take seconds."""
