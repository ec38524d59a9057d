package bpf

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
)

// variant is a way to see touches.
type variant struct {
	name     string
	load     func() (*ebpf.CollectionSpec, error)
	programs []program
}

// program is a program that a variant needs.
type program struct {
	name     string // in touch.bpf.c
	at       string // tracepoint or function
	attach   func(*ebpf.Program, string) (link.Link, error)
	optional bool // the kernel may not have it
}

// variants are tried in this order. Typed tracepoints cost least; functions are there on kernels that lack the tracepoints, which came with 6.12.
var variants = []variant{
	{"tp_btf", loadTyped, slices.Concat(tracepoints(typed), always(typed))},
	{"raw_tp", loadRaw, slices.Concat(tracepoints(rawTracepoint), always(rawTracepoint))},
	{"fentry", loadTyped, slices.Concat(functions(typed), always(typed))},
	{"kprobe", loadRaw, slices.Concat(functions(kprobe), always(rawTracepoint))},
}

// Variants are the names of the ways to see touches, in the order in which they are tried.
func Variants() []string {
	var names []string
	for _, v := range variants {
		names = append(names, v.name)
	}
	return names
}

type attach func(*ebpf.Program, string) (link.Link, error)

func tracepoints(by attach) []program {
	return []program{
		{"got_pages", "mm_filemap_get_pages", by, false},
		{"page_fault", "mm_filemap_fault", by, false},
		{"mapped_pages", "mm_filemap_map_pages", by, false},
	}
}

func functions(by attach) []program {
	return []program{
		{"file_read", "filemap_read", by, false},
		{"file_splice", "filemap_splice_read", by, true}, // since 6.5; before, splice reads through filemap_read
		{"file_fault", "filemap_fault", by, false},
		{"file_map", "filemap_map_pages", by, false},
	}
}

// always are the programs that all variants need.
func always(by attach) []program {
	return []program{
		{"added_page", "mm_filemap_add_to_page_cache", by, false},
		{"forked", "sched_process_fork", by, false},
		{"freed", "sched_process_free", by, false},
	}
}

func typed(p *ebpf.Program, _ string) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: p})
}

func rawTracepoint(p *ebpf.Program, at string) (link.Link, error) {
	return link.AttachRawTracepoint(link.RawTracepointOptions{Name: at, Program: p})
}

func kprobe(p *ebpf.Program, at string) (link.Link, error) { return link.Kprobe(at, p, nil) }

// open loads the variant's programs and attaches them.
func (v variant) open(opts Options, cache *btf.Cache) (_ *Tracer, err error) {
	spec, err := v.load()
	if err != nil {
		return nil, fmt.Errorf("read the programs: %w", err)
	}
	programs, err := v.present(opts, cache)
	if err != nil {
		return nil, err
	}
	for name := range spec.Programs {
		if !slices.ContainsFunc(programs, func(p program) bool { return p.name == name }) {
			delete(spec.Programs, name)
		}
	}
	if err := size(spec, opts); err != nil {
		return nil, err
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: cache})
	if err != nil {
		return nil, fmt.Errorf("load the programs: %w", err)
	}
	reader, err := ringbuf.NewReader(coll.Maps["events"])
	if err != nil {
		coll.Close()
		return nil, fmt.Errorf("open the buffer of events: %w", err)
	}
	t := &Tracer{variant: v.name, coll: coll, reader: reader}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err := t.fill(opts); err != nil {
		return nil, err
	}
	for _, p := range programs {
		l, err := p.attach(coll.Programs[p.name], p.at)
		if err != nil {
			return nil, fmt.Errorf("attach to %s: %w", p.at, err)
		}
		t.links = append(t.links, l)
	}
	return t, nil
}

// present returns the programs that are to be loaded, or what the kernel lacks for them.
func (v variant) present(opts Options, cache *btf.Cache) ([]program, error) {
	kernel, err := cache.Kernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel's types: %w", err)
	}
	var programs []program
	for _, p := range v.programs {
		if len(opts.Processes) == 0 && (p.name == "forked" || p.name == "freed") {
			continue
		}
		name, kind := p.at, "function"
		var found *btf.Func
		var tracepoint *btf.Typedef
		switch p.name {
		case "file_read", "file_splice", "file_fault", "file_map":
			err = kernel.TypeByName(name, &found)
		default:
			kind = "tracepoint"
			err = kernel.TypeByName("btf_trace_"+name, &tracepoint)
		}
		switch {
		case err == nil:
			programs = append(programs, p)
		case !errors.Is(err, btf.ErrNotFound):
			return nil, fmt.Errorf("look for the %s %s: %w", kind, name, err)
		case !p.optional:
			return nil, fmt.Errorf("this kernel has no %s %s", kind, name)
		}
	}
	return programs, nil
}

// size gives maps and variables their values.
func size(spec *ebpf.CollectionSpec, opts Options) error {
	buffer, chunks := opts.Buffer, opts.Chunks
	if buffer == 0 {
		buffer = defaultBuffer
	}
	if chunks == 0 {
		chunks = defaultChunks
	}
	if buffer < 4096 || buffer > 1<<30 || chunks < 1 || chunks > 1<<24 {
		return fmt.Errorf("a buffer of %d bytes and %d chunks: possible are 4096 to 2^30, and 1 to 2^24", buffer, chunks)
	}
	spec.Maps["events"].MaxEntries = uint32(buffer)
	last := uint32(1)<<bits.Len32(uint32(chunks-1)) - 1
	spec.Maps["chunks"].MaxEntries = last + 1
	for name, value := range map[string]any{
		"only_devices": flag(len(opts.Devices) > 0 || opts.OnlyDevices),
		"only_tasks":   flag(len(opts.Processes) > 0),
		"only_cgroups": uint32(len(opts.Cgroups)), // #nosec G115 -- at most MaxCgroups
		"wake_bytes":   uint64(buffer) / 4,
		"last_chunk":   last,
		"secret":       rand.Uint64(),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

func flag(on bool) uint32 {
	if on {
		return 1
	}
	return 0
}
