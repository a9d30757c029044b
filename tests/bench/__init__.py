# SPDX-License-Identifier: GPL-2.0-only
"""Measured comparisons. Two things are compared within one boot; absolute times mean nothing.

``python3 -m tests.bench`` (on the machine) boots a guest and runs ``python -m tests.bench.guest``
in it, which measures and writes figures; the table is printed on the machine.
"""
