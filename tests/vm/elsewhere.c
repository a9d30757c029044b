// SPDX-License-Identifier: GPL-2.0-only
/*
 * Preloaded into a compiler whose program is for the kernel of a guest (compiling.py). bcc makes a
 * program's maps while it compiles, and looks whether the running kernel has
 * bpf_probe_read_kernel. Neither is this kernel's business, and it may allow neither: each map is
 * a file here, and what is looked for is there, as it is since 5.5 (commit 6ae08ae3dea2).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char kallsyms[] = "ffffffff81000000 T bpf_probe_read_kernel\n";

uid_t geteuid(void)
{
	return 0; /* only root sees addresses in /proc/kallsyms */
}

FILE *fopen(const char *path, const char *mode)
{
	FILE *(*next)(const char *, const char *) = dlsym(RTLD_NEXT, "fopen");

	if (!strcmp(path, "/proc/kallsyms"))
		return fmemopen(kallsyms, sizeof(kallsyms) - 1, "r");
	return next(path, mode);
}

long syscall(long number, ...)
{
	long (*next)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	long word[6];
	va_list words;

	va_start(words, number);
	for (int i = 0; i < 6; i++)
		word[i] = va_arg(words, long);
	va_end(words);
	if (number == SYS_bpf && (int)word[0] == BPF_MAP_CREATE)
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	return next(number, word[0], word[1], word[2], word[3], word[4], word[5]);
}
