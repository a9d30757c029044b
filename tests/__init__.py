# SPDX-License-Identifier: GPL-2.0-only
"""The tests of skbtrace: unit, kernel, vm and bench."""
