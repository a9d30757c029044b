# SPDX-License-Identifier: GPL-2.0-only
"""Minutes of flood while containers come and go: nothing grows, every loss is accounted for."""
