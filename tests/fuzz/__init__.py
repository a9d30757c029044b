# SPDX-License-Identifier: GPL-2.0-only
"""Foreign input, made up by a fuzzer that looks at what the code does with it: see ``__main__``."""
