# SPDX-License-Identifier: GPL-2.0-only
"""The full-screen view: what is looked at (browser), panes and pages as lines, the keys, Textual.

Only ``app`` and ``canvas`` know Textual; all else knows no terminal.
"""
