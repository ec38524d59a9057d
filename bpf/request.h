/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * Where the read began that the current task is making.
 *
 * filemap_get_pages() is not traced for a batch whose last folio had to be waited for (it hands out the others, and is called again for what is behind: mm/filemap.c, "err:").
 * What was handed out lies between the beginning of the request and the next batch that is traced. The beginning is in the registers of the system call. Reads that
 * are not made by system calls of the task (io_uring, programs that the kernel loads) stay as they are.
 */
#ifndef PAGEIN_REQUEST_H
#define PAGEIN_REQUEST_H

#define OVERLAYFS_MAGIC 0x794c7630

/* Numbers of system calls, and how their arguments are found (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h). */
#if defined(__TARGET_ARCH_x86)
enum { NR_READ = 0, NR_READV = 19, NR_PREAD = 17, NR_PREADV = 295, NR_PREADV2 = 327, NR_SENDFILE = 40, NR_SPLICE = 275, NR_COPY = 326 };
#define CALL(regs) GET(regs, orig_ax)
#define CALL_ARG0(regs) GET(regs, di)
#define CALL_ARG1(regs) GET(regs, si)
#define CALL_ARG2(regs) GET(regs, dx)
#define CALL_ARG3(regs) GET(regs, r10)
#else
enum { NR_READ = 63, NR_READV = 65, NR_PREAD = 67, NR_PREADV = 69, NR_PREADV2 = 286, NR_SENDFILE = 71, NR_SPLICE = 76, NR_COPY = 285 };
#define CALL(regs) GET(regs, syscallno)
#define CALL_ARG0(regs) GET(regs, orig_x0)
#define CALL_ARG1(regs) GET(regs, regs[1])
#define CALL_ARG2(regs) GET(regs, regs[2])
#define CALL_ARG3(regs) GET(regs, regs[3])
#endif

/* opened returns a file of the current task, or 0. */
static __always_inline struct file *opened(struct task_struct *task, __u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = 0;
	if (!table || fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return file;
}

/* reads_from says whether a read of a file reads a mapping: its own, or that of the file below an overlay. */
static __always_inline int reads_from(struct file *file, struct address_space *mapping)
{
	struct inode *inode = GET(mapping, host);
	if (BPF_CORE_READ(file, f_mapping) == mapping)
		return 1;
	return BPF_CORE_READ(file, f_inode, i_sb, s_magic) == OVERLAYFS_MAGIC && BPF_CORE_READ(file, f_inode, i_size) == GET(inode, i_size);
}

/* request_start returns the first page of the read that is at page index of a mapping now. */
static __noinline __u64 request_start(struct address_space *mapping, __u64 index)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 nr = CALL(regs), pos = -1, at = 0;
	__u32 fd = CALL_ARG0(regs);

	switch (nr) {
	case NR_READ:
	case NR_READV:
		break;
	case NR_PREAD:
	case NR_PREADV:
	case NR_PREADV2:
		pos = CALL_ARG3(regs);
		break;
	case NR_SENDFILE:
		fd = CALL_ARG1(regs);
		at = CALL_ARG2(regs);
		break;
	case NR_SPLICE:
	case NR_COPY:
		at = CALL_ARG1(regs);
		break;
	default:
		return index;
	}
	struct file *file = opened(task, fd);
	if (!file || !reads_from(file, mapping))
		return index;
	if (at)
		bpf_probe_read_user(&pos, sizeof(pos), (void *)at);
	if (pos == -1ULL)
		pos = BPF_CORE_READ(file, f_pos);
	pos >>= PAGE_SHIFT_4K;
	return pos < index ? pos : index;
}

#endif
