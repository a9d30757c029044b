/* SPDX-License-Identifier: GPL-2.0-only */
/* Nothing here depends on the version: what differs comes from BTF. */
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE 0
