//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * First touches of pages of files in EROFS mounts: who, what, when, and whether the page was in the page cache.
 *
 * The file is compiled twice. With TYPED its programs get pointers whose types the verifier knows (tp_btf, fentry) and follow them directly; without, they are raw
 * tracepoints and kprobes, and copy what they read. Which programs are loaded is decided in user space.
 *
 * Pages are remembered in chunks of 64, a word of bits each. What is remembered wrongly as untouched costs a repeated event; nothing is ever remembered wrongly as
 * touched: bits are set after the event was written, and chunks are neither evicted nor reused.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

#ifdef TYPED
#define GET(ptr, field) ((ptr)->field)
#define TRACEPOINT(name) SEC("tp_btf/" name)
#define FUNCTION(name) SEC("fentry/" name)
#define ARG(ctx, n) (((__u64 *)(ctx))[n])
#else
#define GET(ptr, field) BPF_CORE_READ(ptr, field)
#define TRACEPOINT(name) SEC("raw_tp/" name)
#define FUNCTION(name) SEC("kprobe/" name)
#define ARG(ctx, n) (((__u64 *)(ctx))[n])
#endif

/* FARG is the n-th argument of a probed function. kprobes get the registers (arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h). */
#if defined(TYPED) || defined(__TARGET_ARCH_arm64)
#define FARG(ctx, n) (((__u64 *)(ctx))[n])
#else
#define FARG(ctx, n) (((__u64 *)(ctx))[14 - (n)]) /* di, si, dx, cx; n <= 3 */
#endif

#define PAGE_SHIFT_4K 12
#define EROFS_MAGIC 0xE0F5E1E2
#define CHUNK_BITS 6
#define CHUNK (1 << CHUNK_BITS)

/* The most chunks that one system call can read: MAX_RW_COUNT is 2 GiB. */
#define READ_CHUNKS (8192 + 1)

/* Kinds of touches; bpf.Kind in Go. */
enum kind { READ = 0, FAULT = 1, AROUND = 2 };

/* An event; decoded in event.go. 80 bytes. */
struct event {
	__u64 time;   /* CLOCK_MONOTONIC, ns */
	__u64 ino;
	__u64 page;   /* index of the first page of the chunk: a multiple of 64 */
	__u64 pages;  /* bit i: page + i was touched for the first time */
	__u64 cached; /* bit i: and had been in the page cache before the recording began */
	__u64 cgroup; /* on the unified hierarchy */
	__u32 dev;
	__u32 pid;
	__u32 tgid;
	__u32 kind;
	char comm[16];
};

struct chunk_key {
	__u64 dev;
	__u64 ino;
	__u64 chunk;
};

struct chunk {
	__u64 name;   /* of its key, see name_of(); 0: free */
	__u64 exact;  /* touched */
	__u64 around; /* mapped by fault-around */
	__u64 added;  /* came into the page cache while recording */
};

/* What the rest of the file calls a touch: pages first..last of a file, one after the other. */
struct touch {
	__u64 dev;
	__u64 ino;
	__u64 first;
	__u64 last;
	struct address_space *mapping;
	__u32 kind;
	__u32 lost; /* set if not all of it is reported now */
};

/* A run of pages that are all known to have been reported. */
struct span {
	__u64 dev;
	__u64 ino;
	__u64 from;
	__u64 until;
};

/* Pages of a chunk that are known to have been reported, or not to exist. */
struct recent {
	struct chunk_key key;
	__u64 pages;
};

enum counter { DROPPED_PAGES = 0, UNREMEMBERED = 1, UNFOLLOWED = 2, COUNTERS = 3 };

/* Set by the loader. */
const volatile __u32 only_devices = 0;
const volatile __u32 only_tasks = 0;
const volatile __u32 only_cgroups = 0; /* how many */
const volatile __u64 wake_bytes = 0;   /* wake the reader when that much is unread */
const volatile __u32 last_chunk = 0;   /* number of the table's last entry */
const volatile __u64 secret = 0;       /* which names are made with */

#define MAX_CGROUPS 8

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

/*
 * A table by name, with open addressing: nothing is ever taken out of it, so it needs no lock, and a look at it costs the cache miss that it is, mostly one. Its size is a power of two.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 17);
	__type(key, __u32);
	__type(value, struct chunk);
} chunks SEC(".maps");

/*
 * What is read again and again is answered from here, without a look into the large map: short reads by the chunk, long ones by the span. Each reading program has its
 * own on each CPU: a program may interrupt another one there, but never itself.
 */
#define SPANS 64
#define RECENT 1024

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * SPANS);
	__type(key, __u32);
	__type(value, struct span);
} spans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2 * RECENT);
	__type(key, __u32);
	__type(value, struct recent);
} recents SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u8);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, __u8);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, MAX_CGROUPS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} cgroups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(__u32 which, __u64 n)
{
	__u64 *c = bpf_map_lookup_elem(&counters, &which);
	if (c)
		*c += n;
}

/* in_cgroup notes whether the current task is in or below the i-th control group. */
static long in_cgroup(__u32 i, int *below)
{
	*below = bpf_current_task_under_cgroup(&cgroups, i) == 1;
	return *below;
}

/* wanted says whether the current task is to be recorded. */
static __always_inline int wanted(void)
{
	if (only_tasks) {
		__u32 tgid = bpf_get_current_pid_tgid() >> 32;
		if (!bpf_map_lookup_elem(&tasks, &tgid))
			return 0;
	}
	if (only_cgroups) {
		int below = 0;
		bpf_loop(only_cgroups, in_cgroup, &below, 0);
		return below;
	}
	return 1;
}

/* wanted_device says whether a superblock is to be recorded. */
static __always_inline int wanted_device(__u32 dev)
{
	return !only_devices || bpf_map_lookup_elem(&devices, &dev);
}

/* Entries of an xarray (include/linux/xarray.h): pages are pointers, nodes end in binary 10, siblings (of an entry of several slots) are small numbers that do. */
static __always_inline int is_node(__u64 e) { return (e & 3) == 2 && e > 4096; }
static __always_inline int is_sibling(__u64 e) { return (e & 3) == 2 && e < (CHUNK << 2); }
static __always_inline int is_page(__u64 e) { return e && (e & 3) == 0; }

static __always_inline struct xa_node *to_node(__u64 e) { return (struct xa_node *)(e - 2); }

#ifdef TYPED
/* Since 6.2: it returns what it is given, and costs nothing. */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;
#endif

/* word reads eight bytes of the kernel's memory: where that can be done, without a call. */
static __always_inline __u64 word(void *address)
{
	__u64 w = 0;
#ifdef TYPED
	if (bpf_rdonly_cast) {
		struct cpumask *direct = bpf_rdonly_cast(address, bpf_core_type_id_kernel(struct cpumask));
		w = direct->bits[0];
		barrier_var(w); /* the verifier does not take one instruction for both ways */
		return w;
	}
#endif
	bpf_probe_read_kernel(&w, sizeof(w), address);
	return w;
}

static __always_inline __u64 slot(struct xa_node *node, __u32 i) { return word(&node->slots[i & (CHUNK - 1)]); }

static __always_inline int holds_page(struct xa_node *node, __u32 i)
{
	__u64 e = slot(node, i);
	if (is_sibling(e))
		e = slot(node, e >> 2);
	return is_page(e);
}

/* A search for the pages of a chunk in the page cache's tree. */
struct walk {
	__u64 entry; /* where the search is: an entry of the tree */
	__u64 index; /* of the chunk's first page */
	__u64 mask;  /* the pages that are looked for; not 0 */
	__u64 found;
	__u64 lowest; /* of mask */
};

/* lowest is the number of the lowest bit of a number that is not 0; no instruction of BPF tells it. */
static __always_inline __u64 lowest(__u64 n) { return __builtin_popcountll((n & -n) - 1); }

/* look looks at the i-th slot, from the first that is wanted, of the leaf that holds the chunk; it returns 1 when no other one is wanted. */
static long look(__u32 i, struct walk *w)
{
	__u64 at = (w->lowest + i) & (CHUNK - 1), rest = w->mask >> at;
	if (rest & 1 && holds_page(to_node(w->entry), at))
		w->found |= 1ULL << at;
	return rest <= 1;
}

/* descend goes a level down; it returns 1 when there is nothing below. */
static long descend(__u32 level, struct walk *w)
{
	if (!is_node(w->entry)) {
		/* At the top that is page 0 alone, below one folio for the whole chunk. */
		if (is_page(w->entry))
			w->found = level ? w->mask : w->index ? 0 : w->mask & 1;
		return 1;
	}
	struct xa_node *node = to_node(w->entry);
	__u32 shift = word(&node->shift) & 63; /* the lowest byte */
	if (level == 0 && (w->index >> shift) >= CHUNK)
		return 1; /* behind all that is cached */
	if (shift == 0) {
		bpf_loop(CHUNK, look, w, 0);
		return 1;
	}
	__u32 i = w->index >> shift;
	w->entry = slot(node, i);
	if (is_sibling(w->entry))
		w->entry = slot(node, w->entry >> 2);
	return 0;
}

/* The tree's levels: 6 bits each of 64. */
#define LEVELS 11

/* resident tells for each page of a chunk that is in mask whether the page cache has it. */
static __always_inline __u64 resident(__u64 xa_head, __u64 chunk, __u64 mask)
{
	struct walk w = {.entry = xa_head, .index = chunk << CHUNK_BITS, .mask = mask, .lowest = lowest(mask)};
	bpf_loop(LEVELS, descend, &w, 0);
	return w.found;
}

static __always_inline __u64 mix(__u64 n)
{
	n = (n ^ n >> 33) * 0xff51afd7ed558ccdULL; /* the finalizer of MurmurHash3 */
	n = (n ^ n >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return n ^ n >> 33;
}

/* name_of is a number that stands for a key. That two of 131,072 have the same one is as likely as one in two billion, and nobody who does not know the secret can make it so. */
static __always_inline __u64 name_of(struct chunk_key *key)
{
	__u64 name = mix(mix(key->ino ^ secret) ^ key->chunk << 32 ^ key->chunk >> 32 ^ key->dev);
	return name ? name : 1;
}

/* How many entries may be looked at for one. */
#define PROBES 16

/* find returns what is remembered of a chunk, which may be nothing yet, or 0 if there is no room near where it belongs. */
static __always_inline struct chunk *find(struct chunk_key *key)
{
	__u64 name = name_of(key);
	for (__u32 n = 0; n < PROBES; n++) {
		__u32 i = (name + n) & last_chunk;
		struct chunk *c = bpf_map_lookup_elem(&chunks, &i);
		if (!c)
			return 0;
		__u64 found = *(volatile __u64 *)&c->name;
		if (!found) {
			found = __sync_val_compare_and_swap(&c->name, 0, name);
			if (!found)
				return c;
		}
		if (found == name)
			return c;
	}
	return 0;
}

/* run is the pages first..last, which are of one chunk. */
static __always_inline __u64 run(__u64 first, __u64 last)
{
	return ~0ULL << (first & (CHUNK - 1)) & ~0ULL >> (CHUNK - 1 - (last & (CHUNK - 1)));
}

/* pages_in returns the pages of t in a chunk. */
static __always_inline __u64 pages_in(struct touch *t, __u64 chunk)
{
	__u64 base = chunk << CHUNK_BITS, end = base + CHUNK - 1;
	return run(t->first > base ? t->first : base, t->last < end ? t->last : end);
}

/* report reports what is new of t in a chunk. c is what is remembered of the chunk, 0 if it cannot be. */
static __noinline void report(struct touch *t, struct chunk_key *key, struct chunk *c)
{
	__u64 mask = pages_in(t, key->chunk), added = 0;
	if (c) {
		mask &= ~c->exact;
		if (t->kind == AROUND)
			mask &= ~c->around;
		added = c->added;
	} else {
		count(UNREMEMBERED, 1);
	}
	if (!mask)
		return;
	/* What came while recording was not cached before, be it there now or not. */
	__u64 unsure = t->kind == AROUND ? mask : mask & ~added, present = 0;
	struct address_space *mapping = t->mapping;
	if (unsure)
		present = resident(word(&mapping->i_pages.xa_head), key->chunk, unsure);
	if (t->kind == AROUND)
		mask &= present; /* absent neighbours are not mapped */
	if (!mask)
		return;

	__u64 id = bpf_get_current_pid_tgid();
	struct event e = {
		.time = bpf_ktime_get_ns(),
		.ino = t->ino,
		.page = key->chunk << CHUNK_BITS,
		.pages = mask,
		.cached = mask & present & ~added, /* what is absent, or came while recording, was brought in */
		.cgroup = bpf_get_current_cgroup_id(),
		.dev = t->dev,
		.pid = id,
		.tgid = id >> 32,
		.kind = t->kind,
	};
	bpf_get_current_comm(e.comm, sizeof(e.comm));
	/* Copied: while one is written in its place, by a task that may have to wait for a CPU, the reader can do nothing but spin. */
	__u64 unread = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	if (bpf_ringbuf_output(&events, &e, sizeof(e), unread >= wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP)) {
		count(DROPPED_PAGES, __builtin_popcountll(mask));
		t->lost = 1;
		return;
	}
	if (c)
		__sync_fetch_and_or(t->kind == AROUND ? &c->around : &c->exact, mask);
}

/* report_nth reports what is new of t in its i-th chunk. */
static long report_nth(__u32 i, struct touch *t)
{
	struct chunk_key key = {.dev = t->dev, .ino = t->ino, .chunk = (t->first >> CHUNK_BITS) + i};
	report(t, &key, find(&key));
	return 0;
}

/* over reports a touch. */
static __always_inline void over(struct touch *t)
{
	__u64 n = (t->last >> CHUNK_BITS) - (t->first >> CHUNK_BITS) + 1;
	if (n > READ_CHUNKS)
		n = READ_CHUNKS;
	if (n == 1)
		report_nth(0, t);
	else
		bpf_loop(n, report_nth, t, 0);
}

/* last_page is the last page of a file. A file without pages has one that no file has. */
static __always_inline __u64 last_page(struct inode *inode) { return (__u64)(GET(inode, i_size) - 1) >> PAGE_SHIFT_4K; }

/* within begins a touch of pages first..last of a file, cut at the file's end; it returns 0 if there is none in an EROFS mount. */
static __always_inline int within(struct touch *t, struct address_space *mapping, __u64 first, __u64 last)
{
	struct inode *inode = GET(mapping, host);
	if (!inode) /* the cache of something else */
		return 0;
	struct super_block *sb = GET(inode, i_sb);
	if (GET(sb, s_magic) != EROFS_MAGIC || !GET(inode, i_size))
		return 0;
	__u64 end = last_page(inode);
	t->dev = GET(sb, s_dev);
	t->ino = GET(inode, i_ino);
	t->first = first;
	t->last = last < end ? last : end;
	t->mapping = mapping;
	return first <= t->last;
}

#include "request.h"

/* long_read reports a read, unless its span says that there is nothing new in it. If it is a batch, the read may have begun before it, see request_start(). */
static __noinline void long_read(struct touch *t, __u32 program, int batch)
{
	__u32 i = program * SPANS + ((t->ino ^ t->ino >> 6) & (SPANS - 1));
	struct span *s = bpf_map_lookup_elem(&spans, &i);
	if (!s)
		return;
	int known = s->ino == t->ino && s->dev == t->dev;
	if (known && t->first >= s->from && t->last < s->until)
		return;
	if (!wanted_device(t->dev) || !wanted())
		return;
	if (batch && t->first)
		t->first = request_start(t->mapping, t->first);
	__u64 from = t->first;
	known = known && from >= s->from && from <= s->until;
	if (known)
		t->first = s->until;
	if (t->first <= t->last)
		over(t);
	if (t->lost)
		return;
	if (!known) {
		s->dev = t->dev;
		s->ino = t->ino;
		s->from = from;
	}
	if (!known || t->last >= s->until)
		s->until = t->last + 1;
}

/* short_read reports a read within a chunk. r is to remember the pages that were asked for: those behind the end of the file are as good as reported. */
static __noinline void short_read(struct touch *t, struct recent *r, __u64 asked, int batch)
{
	struct chunk_key key = {.dev = t->dev, .ino = t->ino, .chunk = t->first >> CHUNK_BITS};
	if (!wanted_device(t->dev) || !wanted())
		return;
	struct chunk *c = find(&key);
	if (!c || run(t->first, t->last) & ~c->exact) {
		if (batch && t->first)
			t->first = request_start(t->mapping, t->first);
		if (t->first >> CHUNK_BITS == key.chunk)
			report(t, &key, c);
		else
			over(t);
		if (t->lost)
			return;
	}
	if (r->key.chunk != key.chunk || r->key.ino != key.ino || r->key.dev != key.dev) {
		r->key = key;
		r->pages = 0;
	}
	r->pages |= asked;
}

/* reading reports a read of pages first..last. Nearly all that programs read they have read before, and are held up here no longer than it takes to see that. */
static __always_inline void reading(struct address_space *mapping, __u64 first, __u64 last, __u32 program, int batch)
{
	struct inode *inode = GET(mapping, host);
	if (!inode)
		return;
	struct super_block *sb = GET(inode, i_sb);
	if (GET(sb, s_magic) != EROFS_MAGIC)
		return;
	__u64 chunk = first >> CHUNK_BITS;
	if (last >> CHUNK_BITS != chunk) { /* buffers are larger than files */
		__u64 end = last_page(inode);
		last = last < end ? last : end;
	}
	struct touch t = {.kind = READ};
	if (last >> CHUNK_BITS != chunk) {
		if (within(&t, mapping, first, last))
			long_read(&t, program, batch);
		return;
	}
	__u64 ino = GET(inode, i_ino);
	__u32 i = program * RECENT + ((ino * 31 + chunk) & (RECENT - 1));
	struct recent *r = bpf_map_lookup_elem(&recents, &i);
	if (!r)
		return;
	__u64 asked = run(first, last);
	if (r->key.chunk == chunk && r->key.ino == ino && r->key.dev == GET(sb, s_dev) && !(asked & ~r->pages))
		return;
	if (within(&t, mapping, first, last))
		short_read(&t, r, asked, batch);
}

/* faulting reports a fault. */
static __always_inline void faulting(struct touch *t)
{
	if (wanted_device(t->dev) && wanted())
		over(t);
}

/*
 * mm_filemap_get_pages(mapping, index, last): a read or splice has pages from index on, as many as a batch holds, of those up to last that it wants. It is not told of
 * each batch: not if the last folio of several had to be waited for. Then it is told when the read goes on behind them.
 */
TRACEPOINT("mm_filemap_get_pages")
int got_pages(void *ctx)
{
	reading((void *)ARG(ctx, 0), ARG(ctx, 1), ARG(ctx, 2), 0, 1);
	return 0;
}

/* mm_filemap_fault(mapping, index): a page fault that fault-around did not resolve. */
TRACEPOINT("mm_filemap_fault")
int page_fault(void *ctx)
{
	struct address_space *mapping = (void *)ARG(ctx, 0);
	struct touch t = {.kind = FAULT};
	if (!within(&t, mapping, ARG(ctx, 1), ARG(ctx, 1)))
		return 0;
	faulting(&t);
	return 0;
}

/* mm_filemap_map_pages(mapping, start, end): a page fault was resolved, and what is cached between start and end was mapped. */
TRACEPOINT("mm_filemap_map_pages")
int mapped_pages(void *ctx)
{
	struct address_space *mapping = (void *)ARG(ctx, 0);
	struct touch t = {.kind = AROUND};
	if (!within(&t, mapping, ARG(ctx, 1), ARG(ctx, 2)))
		return 0;
	faulting(&t);
	return 0;
}

/* pages_of is how many pages a folio has. */
static __always_inline __u64 pages_of(struct folio *folio)
{
	__u64 flags = 0;
	struct folio___wrapped *wrapped = (void *)folio;
	struct folio___order *old = (void *)folio;
	if (bpf_core_field_exists(folio->flags))
		flags = GET(folio, flags);
	else
		flags = GET(wrapped, flags.f);
	if (!(flags & 1ULL << bpf_core_enum_value(enum pageflags, PG_head)))
		return 1;
	__u32 order = 0;
	if (bpf_core_field_exists(old->_folio_order))
		order = GET(old, _folio_order);
	else
		order = GET(folio, _flags_1);
	order &= 0xff;
	return 1ULL << (order <= 9 ? order : 9);
}

/* note_added remembers that pages of the i-th chunk came into the page cache. */
static long note_added(__u32 i, struct touch *t)
{
	struct chunk_key key = {.dev = t->dev, .ino = t->ino, .chunk = (t->first >> CHUNK_BITS) + i};
	struct chunk *c = find(&key);
	if (c)
		__sync_fetch_and_or(&c->added, pages_in(t, key.chunk));
	return 0;
}

/* mm_filemap_add_to_page_cache(folio): read-ahead, a read or a fault brings a folio; nobody has touched it yet. */
TRACEPOINT("mm_filemap_add_to_page_cache")
int added_page(void *ctx)
{
	struct folio *folio = (void *)ARG(ctx, 0);
	struct touch t = {};
	struct address_space *mapping = GET(folio, mapping);
	__u64 first = GET(folio, index);
	if (!within(&t, mapping, first, first + pages_of(folio) - 1) || !wanted_device(t.dev))
		return 0;
	bpf_loop((t.last >> CHUNK_BITS) - (t.first >> CHUNK_BITS) + 1, note_added, &t, 0);
	return 0;
}

/* reading_bytes reports a read of len bytes. */
static __always_inline void reading_bytes(struct file *file, __u64 pos, __u64 len, __u32 program)
{
	if (len)
		reading(GET(file, f_mapping), pos >> PAGE_SHIFT_4K, (pos + len - 1) >> PAGE_SHIFT_4K, program, 0);
}

/* filemap_read(iocb, iter, already_read) */
FUNCTION("filemap_read")
int file_read(void *ctx)
{
	struct kiocb *iocb = (void *)FARG(ctx, 0);
	struct iov_iter *iter = (void *)FARG(ctx, 1);
	reading_bytes(GET(iocb, ki_filp), GET(iocb, ki_pos), GET(iter, count), 0);
	return 0;
}

/* filemap_splice_read(in, ppos, pipe, len, flags), since 6.5; before, splice reads like read. */
FUNCTION("filemap_splice_read")
int file_splice(void *ctx)
{
	struct file *in = (void *)FARG(ctx, 0);
	__u64 pos = 0;
	bpf_probe_read_kernel(&pos, sizeof(pos), (void *)FARG(ctx, 1));
	reading_bytes(in, pos, FARG(ctx, 3), 1);
	return 0;
}

/* filemap_fault(vmf) */
FUNCTION("filemap_fault")
int file_fault(void *ctx)
{
	struct vm_fault *vmf = (void *)FARG(ctx, 0);
	struct vm_area_struct *vma = GET(vmf, vma);
	struct file *file = GET(vma, vm_file);
	struct touch t = {.kind = FAULT};
	if (within(&t, GET(file, f_mapping), GET(vmf, pgoff), GET(vmf, pgoff)))
		faulting(&t);
	return 0;
}

/* filemap_map_pages(vmf, start, end): of what it maps, one page is what the fault is about. If that one is not there, filemap_fault follows. */
FUNCTION("filemap_map_pages")
int file_map(void *ctx)
{
	struct vm_fault *vmf = (void *)FARG(ctx, 0);
	__u64 start = FARG(ctx, 1), end = FARG(ctx, 2), at = GET(vmf, pgoff);
	struct vm_area_struct *vma = GET(vmf, vma);
	struct file *file = GET(vma, vm_file);
	struct address_space *mapping = GET(file, f_mapping);
	struct touch t = {.kind = AROUND};
	if (!within(&t, mapping, start, end) || !wanted_device(t.dev) || !wanted())
		return 0;
	if (resident(word(&mapping->i_pages.xa_head), at >> CHUNK_BITS, 1ULL << (at & (CHUNK - 1)))) {
		struct touch exact = t;
		exact.kind = FAULT;
		exact.first = exact.last = at;
		over(&exact);
	}
	over(&t);
	return 0;
}

/* sched_process_fork(parent, child): who is recorded has its children recorded. */
TRACEPOINT("sched_process_fork")
int forked(void *ctx)
{
	struct task_struct *parent = (void *)ARG(ctx, 0), *child = (void *)ARG(ctx, 1);
	__u32 from = GET(parent, tgid), to = GET(child, tgid);
	__u8 yes = 1;
	if (from != to && bpf_map_lookup_elem(&tasks, &from) && bpf_map_update_elem(&tasks, &to, &yes, BPF_ANY))
		count(UNFOLLOWED, 1);
	return 0;
}

/* sched_process_exit(task): the number may be given to somebody else. A process is over when its first thread is not the last, too: that thread stays until then. */
TRACEPOINT("sched_process_free")
int freed(void *ctx)
{
	struct task_struct *task = (void *)ARG(ctx, 0);
	__u32 pid = GET(task, pid);
	bpf_map_delete_elem(&tasks, &pid);
	return 0;
}
