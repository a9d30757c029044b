# SPDX-License-Identifier: GPL-2.0-only
"""The full-screen view: what is looked at (browser), its panes as lines, the keys, and Textual.

``browser`` and ``panes`` are pure and know no terminal; only ``app``, ``canvas`` and
``filter_input`` know Textual.
"""
