package bpf_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/touchtest"
)

const large = 4<<20 + 100 // bytes: 1,025 pages

// sparse are ranges of a large file, in bytes, with gaps: at both ends, across chunks of 64 pages, and in parts of a page.
var sparse = []struct {
	off, len    int64
	first, last uint64
}{
	{0, 1, 0, 0},
	{5*pageSize - 1, 2, 4, 5},
	{60 * pageSize, 10 * pageSize, 60, 69},
	{300 * pageSize, 200 * pageSize, 300, 499},
	{700*pageSize + 17, 1, 700, 700},
	{1023 * pageSize, 2 * pageSize, 1023, 1024}, // over the end
}

func sparsePages() (l []uint64) {
	for _, r := range sparse {
		l = append(l, span(r.first, r.last)...)
	}
	return l
}

func sparseOps(path, how string) (ops []touchtest.Op) {
	for _, r := range sparse {
		ops = append(ops, touchtest.Op{How: how, Path: path, Off: r.off, Len: min(r.len, large-r.off)})
	}
	return ops
}

func TestReadsAreReportedExactly(t *testing.T) {
	for _, variant := range variants(t) {
		for _, how := range []string{touchtest.Read, touchtest.Splice, touchtest.Send} {
			t.Run(variant+"/"+how, func(t *testing.T) {
				m := mounted(t, 128, file{name: "large", size: large})
				s := record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() {
					touchtest.Do(t, sparseOps(m.path("large"), how)...)
				})
				nid := m.nids["large"]
				if got, want := pages(s.exact[nid]), sparsePages(); !slices.Equal(got, want) {
					t.Errorf("reported %v, touched were %v", got, want)
				}
				if len(s.around) > 0 || len(s.exact) != 1 || s.stats.Lost() {
					t.Errorf("also: %v, %v, %+v", s.around, s.exact, s.stats)
				}
				if read := erofstest.Resident(t, m.path("large")); len(read) <= len(sparsePages()) {
					t.Errorf("there was no read-ahead that could have been mistaken for a touch: %d pages are cached", len(read))
				}
			})
		}
	}
}

func TestManySmallFilesAreReportedExactly(t *testing.T) {
	const count = 10000
	var files []file
	for i := range count {
		files = append(files, file{name: fmt.Sprintf("f%05d", i), size: int64(i%4)*pageSize + 100})
	}
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			m := mounted(t, 128, files...)
			ops := make([]touchtest.Op, 0, count)
			want := make(map[uint64][]uint64)
			for i, f := range files {
				switch i % 3 {
				case 0: // all
					ops = append(ops, touchtest.Op{How: touchtest.Read, Path: m.path(f.name)})
					want[m.nids[f.name]] = span(0, uint64(i%4))
				case 1: // the last page
					ops = append(ops, touchtest.Op{How: touchtest.Splice, Path: m.path(f.name), Off: f.size - 100})
					want[m.nids[f.name]] = []uint64{uint64(i % 4)}
				}
			}
			s := record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() { touchtest.Do(t, ops...) })
			got := make(map[uint64][]uint64)
			for nid, set := range s.exact {
				got[nid] = pages(set)
			}
			if !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("reported %d files, touched were %d; or other pages of them", len(got), len(want))
			}
			if len(s.around) > 0 || s.stats.Lost() {
				t.Errorf("also: %v, %+v", s.around, s.stats)
			}
			t.Logf("%d files, %d events", len(got), len(s.touches))
		})
	}
}

// mapped are pages that are touched through a mapping; some share a window of 16.
var mapped = []uint64{3, 5, 64, 79, 80, 500, 501, 502, 1024}

func mappedOps(path, how string) (ops []touchtest.Op) {
	for _, p := range mapped {
		ops = append(ops, touchtest.Op{How: how, Path: path, Off: int64(p) * pageSize, Len: 1})
	}
	return ops
}

func TestFaultsAreReportedExactlyWithoutReadAhead(t *testing.T) {
	for _, variant := range variants(t) {
		for _, how := range []string{touchtest.Map, touchtest.Random} {
			t.Run(variant+"/"+how, func(t *testing.T) {
				m := mounted(t, 0, file{name: "large", size: large})
				s := record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() {
					touchtest.Do(t, mappedOps(m.path("large"), how)...)
				})
				nid := m.nids["large"]
				if got := pages(s.exact[nid]); !slices.Equal(got, mapped) {
					t.Errorf("reported %v, touched were %v", got, mapped)
				}
				if len(s.around) > 0 || s.stats.Lost() {
					t.Errorf("also: %v, %+v", s.around, s.stats)
				}
			})
		}
	}
}

// window is how many pages fault-around maps at most; /sys/kernel/debug/fault_around_bytes says otherwise on machines where somebody changed it.
const window = 16

// near says whether a page is in the window of one of the others.
func near(page uint64, others []uint64) bool {
	return slices.ContainsFunc(others, func(o uint64) bool { return o/window == page/window })
}

func TestFaultsWithReadAheadAreReportedWithinTheirWindow(t *testing.T) {
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			m := mounted(t, 128, file{name: "large", size: large})
			s := record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() {
				touchtest.Do(t, mappedOps(m.path("large"), touchtest.Map)...)
			})
			checkWindows(t, s, m.nids["large"], mapped)
			if read := erofstest.Resident(t, m.path("large")); len(read) <= len(s.exact[m.nids["large"]])+len(s.around[m.nids["large"]]) {
				t.Errorf("no page was read ahead and mapped by nobody: %d are cached", len(read))
			}
		})
	}
}

// checkWindows checks that no touched page is missing, that exact ones were touched, and that the others lie in the window of one that was.
func checkWindows(t *testing.T, s *seen, nid uint64, touched []uint64) {
	t.Helper()
	exact, around := s.exact[nid], s.around[nid]
	for _, p := range touched {
		if !exact[p] && !around[p] {
			t.Errorf("page %d was touched and is not reported", p)
		}
	}
	for p := range exact {
		if !slices.Contains(touched, p) {
			t.Errorf("page %d is reported as touched, and was not", p)
		}
	}
	for p := range around {
		if !near(p, touched) {
			t.Errorf("page %d is reported as mapped around a touched one, and none is near", p)
		}
	}
	if s.stats.Lost() {
		t.Errorf("lost: %+v", s.stats)
	}
	t.Logf("%d touched: %d reported exactly, %d around", len(touched), len(exact), len(around))
}

func TestProgramsThatAreStartedAreReported(t *testing.T) {
	busybox := require.Tool(t, "busybox")
	for _, variant := range variants(t) {
		t.Run(variant, func(t *testing.T) {
			run := func(readAhead int) (*seen, mount) {
				m := mounted(t, readAhead, file{name: "busybox", from: busybox})
				return record(t, bpf.Options{Variant: variant, Devices: []uint64{m.device}}, func() {
					touchtest.Do(t, touchtest.Op{How: touchtest.Exec, Path: m.path("busybox")})
				}), m
			}
			// Without read-ahead, what is cached afterwards is what was touched.
			s, m := run(0)
			touched := erofstest.Resident(t, m.path("busybox"))
			if got := pages(s.exact[m.nids["busybox"]]); !slices.Equal(got, touched) || len(s.around) > 0 || s.stats.Lost() {
				t.Errorf("reported %v, touched were %v; around %v, %+v", got, touched, s.around, s.stats)
			}
			s, m = run(128)
			checkWindows(t, s, m.nids["busybox"], touched)
		})
	}
}
