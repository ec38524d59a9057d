package bpf_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/erofs"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/touchtest"
)

func TestMain(m *testing.M) {
	touchtest.Init()
	if keep, ok := os.LookupEnv(keepEnv); ok {
		if err := openWithLess(keep); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(m.Run())
}

const pageSize = 4096

// file is a file of an image that a test makes.
type file struct {
	name string
	size int64
	from string // a program whose content it has; else all bytes are 0
}

// mount is a mounted image.
type mount struct {
	dir    string
	device uint64
	nids   map[string]uint64
}

func (m mount) path(name string) string { return filepath.Join(m.dir, name) }

// mounted makes an image of files, and mounts it from a loop device that reads ahead so many KiB.
func mounted(t *testing.T, readAhead int, files ...file) mount {
	t.Helper()
	require.Root(t)
	image, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	root := &erofs.Inode{Mode: unix.S_IFDIR | 0o755}
	block := int64(1)
	for _, f := range files {
		if f.from != "" {
			b, err := os.ReadFile(f.from)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := image.WriteAt(b, block*erofs.BlockSize); err != nil {
				t.Fatal(err)
			}
			f.size = int64(len(b))
		}
		root.Entries = append(root.Entries, erofs.Dirent{Name: f.name, Inode: &erofs.Inode{
			Mode: unix.S_IFREG | 0o755, Size: f.size, Extents: []erofs.Extent{{Len: f.size, Block: uint64(block)}},
		}})
		block += (f.size + erofs.BlockSize - 1) / erofs.BlockSize
	}
	slices.SortFunc(root.Entries, func(a, b erofs.Dirent) int { return strings.Compare(a.Name, b.Name) })
	if _, err := erofs.Write(image, root, erofs.WriteOptions{MetaBlock: uint64(block)}); err != nil {
		t.Fatal(err)
	}
	loop := erofstest.Loop(t, image.Name())
	if err := os.WriteFile(filepath.Join("/sys/block", filepath.Base(loop), "queue/read_ahead_kb"), fmt.Append(nil, readAhead), 0o644); err != nil {
		t.Fatal(err)
	}
	m := mount{dir: erofstest.Mount(t, loop), nids: make(map[string]uint64)}
	for _, f := range files {
		var st unix.Stat_t
		if err := unix.Stat(m.path(f.name), &st); err != nil {
			t.Fatal(err)
		}
		m.device, m.nids[f.name] = st.Dev, st.Ino
	}
	return m
}

// seen is what a recording reported, in pages of files.
type seen struct {
	exact, around, cached map[uint64]map[uint64]bool // inode → page
	touches               []bpf.Touch
	stats                 bpf.Stats
}

// record records while f runs.
func record(t *testing.T, opts bpf.Options, f func()) *seen {
	t.Helper()
	tracer := open(t, opts)
	ctx, cancel := context.WithCancel(t.Context())
	s := &seen{exact: make(map[uint64]map[uint64]bool), around: make(map[uint64]map[uint64]bool), cached: make(map[uint64]map[uint64]bool)}
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx, s.add) }()
	f()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var err error
	if s.stats, err = tracer.Stats(); err != nil {
		t.Fatal(err)
	}
	return s
}

// open opens a tracer until the test ends.
func open(t *testing.T, opts bpf.Options) *bpf.Tracer {
	t.Helper()
	tracer, err := bpf.Open(opts)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Log(err)
		require.Feature(t, false, "eBPF programs that see touches")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tracer.Close(); err != nil {
			t.Errorf("close the tracer: %v", err)
		}
	})
	return tracer
}

func (s *seen) add(touch bpf.Touch) error {
	s.touches = append(s.touches, touch)
	set := s.exact
	if touch.Kind == bpf.Around {
		set = s.around
	}
	for i := range uint64(64) {
		if touch.Pages>>i&1 == 1 {
			put(set, touch.Inode, touch.Page+i)
		}
		if touch.Cached>>i&1 == 1 {
			put(s.cached, touch.Inode, touch.Page+i)
		}
	}
	return nil
}

func put(set map[uint64]map[uint64]bool, inode, page uint64) {
	if set[inode] == nil {
		set[inode] = make(map[uint64]bool)
	}
	set[inode][page] = true
}

func pages(set map[uint64]bool) []uint64 { return slices.Sorted(maps.Keys(set)) }

// span is the numbers from first to last.
func span(first, last uint64) (l []uint64) {
	for ; first <= last; first++ {
		l = append(l, first)
	}
	return l
}

// working finds out once which variants work here, and why the others do not.
var working = sync.OnceValues(func() (works []string, reasons []error) {
	for _, name := range bpf.Variants() {
		tracer, err := bpf.Open(bpf.Options{Variant: name, OnlyDevices: true})
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		works = append(works, name)
		reasons = append(reasons, tracer.Close())
	}
	return works, reasons
})

// variants are those that work here; the first is what users get.
func variants(t *testing.T) []string {
	t.Helper()
	require.Root(t)
	works, reasons := working()
	if err := errors.Join(reasons...); err != nil {
		t.Log(err)
	}
	require.Feature(t, len(works) > 0, "eBPF programs that see touches")
	return works
}

// done is a context that is over.
func done(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
