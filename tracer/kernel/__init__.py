# SPDX-License-Identifier: GPL-2.0-only
"""The running kernel: what it can do, the program in it, the records that come out of it.

The only package that knows bcc, and it loads it when it is needed.
"""
