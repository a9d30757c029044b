# SPDX-License-Identifier: GPL-2.0-only
"""Devices and namespaces: what they are called, what hangs together, and labs to build.

The only package that knows pyroute2, and it imports it when it is needed.
"""
