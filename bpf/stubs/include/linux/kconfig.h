/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc includes it before all else; its own headers ask for this one switch. */
#define CONFIG_BPF_SYSCALL 1
