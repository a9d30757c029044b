/* SPDX-License-Identifier: GPL-2.0-only */
/* asked for by bcc, not needed */
