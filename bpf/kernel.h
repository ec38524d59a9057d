/* SPDX-License-Identifier: GPL-2.0 OR Apache-2.0 */
/*
 * The parts of the kernel's types that the probes read. Offsets are those of the running kernel: the loader looks each field up in its BTF by name,
 * so only names and types count here, not order or size.
 */
#ifndef PAGEIN_KERNEL_H
#define PAGEIN_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef short __s16;
typedef unsigned int __u32;
typedef int __s32;
typedef unsigned long long __u64;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* Of include/uapi/linux/bpf.h, which would want headers of the machine that compiles. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

#define BY_NAME __attribute__((preserve_access_index))

struct super_block {
	__u32 s_dev; /* MKDEV(major, minor): 12 and 20 bits */
	unsigned long s_magic;
} BY_NAME;

struct inode {
	struct super_block *i_sb;
	unsigned long i_ino; /* EROFS: the nid */
	long long i_size;
} BY_NAME;

struct xarray {
	void *xa_head;
} BY_NAME;

struct address_space {
	struct inode *host;
	struct xarray i_pages;
} BY_NAME;

/* A node of the page cache's tree: 64 slots, each for 1 << shift pages. */
struct xa_node {
	unsigned char shift;
	void *slots[64];
} BY_NAME;

/* Begins with a number of 64 bits, which programs may calculate with, as they may not with pointers. */
struct cpumask {
	unsigned long bits[1];
} BY_NAME;

struct folio {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned long _flags_1; /* of a large folio: its order is in the low byte, since 6.6 */
} BY_NAME;

/* 6.18 wraps the flags. */
typedef struct {
	unsigned long f;
} memdesc_flags_t;

struct folio___wrapped {
	memdesc_flags_t flags;
} BY_NAME;

/* Before 6.6 the order had a field. */
struct folio___order {
	unsigned char _folio_order;
} BY_NAME;

enum pageflags { PG_head = 1 };

struct file {
	struct address_space *f_mapping;
	struct inode *f_inode;
	long long f_pos;
} BY_NAME;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} BY_NAME;

struct files_struct {
	struct fdtable *fdt;
} BY_NAME;

struct kiocb {
	struct file *ki_filp;
	long long ki_pos;
} BY_NAME;

struct iov_iter {
	unsigned long count;
} BY_NAME;

struct vm_area_struct {
	struct file *vm_file;
} BY_NAME;

struct vm_fault {
	struct vm_area_struct *vma;
	unsigned long pgoff;
} BY_NAME;

struct task_struct {
	int tgid;
	int pid;
	struct files_struct *files;
} BY_NAME;

/* The registers with which a system call was made. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long di, si, dx, r10;
	unsigned long orig_ax;
} BY_NAME;
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
} BY_NAME;
#else
#error "compile for x86 or arm64"
#endif

#endif
