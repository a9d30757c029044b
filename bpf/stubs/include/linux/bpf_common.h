/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc's copy of linux/bpf.h asks for it; its opcodes are not needed */
