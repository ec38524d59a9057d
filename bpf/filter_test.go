package bpf_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/touchtest"
)

func TestATouchTellsWhoAndWhen(t *testing.T) {
	m := mounted(t, 0, file{name: "a", size: 3 * pageSize}, file{name: "b", size: pageSize})
	p := touchtest.Start(t)
	var before, after unix.Timespec
	s := record(t, bpf.Options{Devices: []uint64{m.device}}, func() {
		clock(t, &before)
		p.Do(touchtest.Op{How: touchtest.Read, Path: m.path("b")}, touchtest.Op{How: touchtest.Read, Path: m.path("a"), Off: pageSize})
		clock(t, &after)
	})
	if len(s.touches) != 2 || s.touches[0].Inode != m.nids["b"] || s.touches[1].Inode != m.nids["a"] || s.touches[1].Pages != 0b110 {
		t.Fatalf("reported %+v", s.touches)
	}
	for _, touch := range s.touches {
		if touch.TGID != uint32(p.PID()) || touch.Comm != "exe" || touch.Device != m.device || touch.Cgroup == 0 || touch.Kind != bpf.Read {
			t.Errorf("reported %+v, process %d", touch, p.PID())
		}
		if int64(touch.Time) < before.Nano() || int64(touch.Time) > after.Nano() {
			t.Errorf("touched at %d, which is not between %d and %d", touch.Time, before.Nano(), after.Nano())
		}
	}
}

func clock(t *testing.T, to *unix.Timespec) {
	t.Helper()
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, to); err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasCachedIsReportedAsSuch(t *testing.T) {
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			m := mounted(t, 0, file{name: "large", size: large})
			path := m.path("large")
			op := func(how string, first, count int64) touchtest.Op {
				return touchtest.Op{How: how, Path: path, Off: first * pageSize, Len: count * pageSize}
			}
			pin(t, path, 2, 3)
			pin(t, path, 200, 1)
			pin(t, path, 1000, 1)
			s := record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() {
				touchtest.Do(t, op(touchtest.Read, 0, 6), op(touchtest.Random, 200, 1), op(touchtest.Random, 1001, 1))
			})
			nid := m.nids["large"]
			both := map[uint64]bool{}
			for p := range s.exact[nid] {
				both[p] = true
			}
			for p := range s.around[nid] {
				both[p] = true
			}
			// 1000 is mapped with 1001 where functions are probed, and before 1001 is there where tracepoints are.
			delete(both, 1000)
			delete(s.cached[nid], 1000)
			if got, want := pages(both), []uint64{0, 1, 2, 3, 4, 5, 200, 1001}; !slices.Equal(got, want) {
				t.Errorf("reported %v, want %v", got, want)
			}
			if got, want := pages(s.cached[nid]), []uint64{2, 3, 4, 200}; !slices.Equal(got, want) {
				t.Errorf("cached before were %v, want %v", got, want)
			}
		})
	}
}

// pin has pages in the page cache until the test ends, whoever drops caches.
func pin(t *testing.T, path string, first, count int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages, err := unix.Mmap(int(f.Fd()), int64(first)*pageSize, count*pageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(pages); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mlock(pages); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyWhatWasAskedForIsRecorded(t *testing.T) {
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			busybox := require.Tool(t, "busybox")
			a := mounted(t, 128, file{name: "a", size: pageSize}, file{name: "busybox", from: busybox})
			b := mounted(t, 128, file{name: "b", size: pageSize})
			in, out := touchtest.Start(t), touchtest.Start(t)
			s := record(t, bpf.Options{Variant: variant, Devices: []uint64{a.device}, Processes: []int{in.PID()}}, func() {
				out.Do(touchtest.Op{How: touchtest.Read, Path: a.path("a")})
				in.Do(touchtest.Op{How: touchtest.Read, Path: b.path("b")}, touchtest.Op{How: touchtest.Exec, Path: a.path("busybox")})
			})
			for _, touch := range s.touches {
				if touch.Device != a.device || touch.Inode != a.nids["busybox"] {
					t.Errorf("reported %+v", touch)
				}
			}
			if len(s.touches) == 0 || int(s.touches[0].TGID) == in.PID() {
				t.Errorf("what a recorded process started is not reported: %+v", s.touches)
			}
		})
	}
}

func TestControlGroupsAreRecordedWithAllBelowThem(t *testing.T) {
	root := cgroupRoot(t)
	top := filepath.Join(root, "pagein-bpf-test")
	below := filepath.Join(top, "below")
	for _, dir := range []string{top, below} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.Remove(dir); err != nil {
				t.Errorf("remove a control group: %v", err)
			}
		})
	}
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			m := mounted(t, 128, file{name: "in", size: pageSize}, file{name: "out", size: pageSize})
			in, out := touchtest.Start(t), touchtest.Start(t)
			if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), strconv.AppendInt(nil, int64(in.PID()), 10), 0o644); err != nil {
				t.Fatal(err)
			}
			s := record(t, bpf.Options{Variant: variant, Cgroups: []string{top}}, func() {
				out.Do(touchtest.Op{How: touchtest.Read, Path: m.path("out")})
				in.Do(touchtest.Op{How: touchtest.Read, Path: m.path("in")})
			})
			var st unix.Stat_t
			if err := unix.Stat(below, &st); err != nil {
				t.Fatal(err)
			}
			if len(s.touches) != 1 || s.touches[0].Inode != m.nids["in"] || s.touches[0].Cgroup != st.Ino {
				t.Errorf("reported %+v; the group is %d", s.touches, st.Ino)
			}
		})
	}
}

// cgroupRoot is where control groups of version 2 are mounted.
func cgroupRoot(t *testing.T) string {
	t.Helper()
	require.Root(t)
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	require.Feature(t, false, "a mounted cgroup2")
	return ""
}

func TestWhatFindsNoRoomIsCounted(t *testing.T) {
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			m := mounted(t, 128, file{name: "large", size: large})
			// Nobody reads while the pages are touched: a page holds 46 events of 88 bytes.
			var ops []touchtest.Op
			for off := int64(0); off < large; off += 8 * pageSize {
				ops = append(ops, touchtest.Op{How: touchtest.Read, Path: m.path("large"), Off: off, Len: min(8*pageSize, large-off)})
			}
			tracer := open(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}, Buffer: 4096})
			touchtest.Do(t, ops...)
			stats, err := tracer.Stats()
			if err != nil {
				t.Fatal(err)
			}
			found := uint64(0)
			ctx := done(t)
			if err := tracer.Run(ctx, func(touch bpf.Touch) error { found += uint64(touch.Count()); return nil }); err != nil {
				t.Fatal(err)
			}
			if found == 0 || found > large/pageSize || found+stats.DroppedPages < large/pageSize+1 || !stats.Lost() {
				t.Errorf("%d pages are reported and %+v, of %d", found, stats, large/pageSize+1)
			}
		})
	}
}

// TestARecordingEndsThoughEventsKeepComing has each event bring about another one.
func TestARecordingEndsThoughEventsKeepComing(t *testing.T) {
	m := mounted(t, 128, file{name: "large", size: large})
	tracer := open(t, bpf.Options{Devices: []uint64{m.device}})
	next := int64(0)
	touch := func() {
		touchtest.Do(t, touchtest.Op{How: touchtest.Read, Path: m.path("large"), Off: next * pageSize, Len: 1})
		next++
	}
	touch()
	ctx, cancel := context.WithCancel(t.Context())
	err := tracer.Run(ctx, func(bpf.Touch) error {
		cancel()
		if next < 10 {
			touch()
		}
		return nil
	})
	// After the first event the recording ends; that has brought about the second one before.
	if err != nil || next != 3 {
		t.Errorf("the recording went on for %d events, %v", next-1, err)
	}
}

func TestMoreThanCanBeRememberedIsReportedAgain(t *testing.T) {
	m := mounted(t, 128, file{name: "large", size: large}, file{name: "a", size: pageSize})
	s := record(t, bpf.Options{Devices: []uint64{m.device}, Chunks: 4}, func() {
		touchtest.Do(t, sparseOps(m.path("large"), touchtest.Read)...)
		touchtest.Do(t, touchtest.Op{How: touchtest.Read, Path: m.path("a")})
	})
	if got := pages(s.exact[m.nids["large"]]); !slices.Equal(got, sparsePages()) || len(s.exact[m.nids["a"]]) != 1 {
		t.Errorf("reported %v, and %v of the second file", got, s.exact[m.nids["a"]])
	}
	if s.stats.Unremembered == 0 || s.stats.Lost() {
		t.Errorf("%+v", s.stats)
	}
}

func TestWhatCannotBeRecordedIsExplained(t *testing.T) {
	require.Root(t)
	_, err := bpf.Open(bpf.Options{Variant: "telepathy"})
	if err == nil || !strings.Contains(err.Error(), `no variant "telepathy"`) {
		t.Errorf("error is %v", err)
	}
	_, err = bpf.Open(bpf.Options{Buffer: 5})
	if err == nil || errors.Is(err, errors.ErrUnsupported) && !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("error is %v", err)
	}
	if _, err = bpf.Open(bpf.Options{Cgroups: []string{"/nowhere"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}
