# SPDX-License-Identifier: GPL-2.0-only
"""``python -m tracer`` is skbtrace."""

from tracer.cli import main

main()
