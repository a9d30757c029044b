/* SPDX-License-Identifier: GPL-2.0-only */
/* bcc sizes ring buffers in pages */
#define PAGE_SIZE 4096
