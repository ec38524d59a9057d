package erofs

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// discard counts what is written to it.
type discard struct{ end int64 }

func (d *discard) WriteAt(p []byte, off int64) (int, error) {
	d.end = max(d.end, off+int64(len(p)))
	return len(p), nil
}

// manyFiles is a tree of count regular files in directories of 100: every other one inline, the rest on a device.
func manyFiles(count int) (*Inode, WriteOptions) {
	root := &Inode{Mode: unix.S_IFDIR | 0o755}
	inline := make([]byte, 4096)
	var dir *Inode
	for i := range count {
		if i%100 == 0 {
			dir = &Inode{Mode: unix.S_IFDIR | 0o755}
			root.Entries = append(root.Entries, Dirent{fmt.Sprintf("directory-%05d", i/100), dir})
		}
		n := &Inode{Mode: unix.S_IFREG | 0o644, Size: int64(i*7919) % 3000, Mtime: int64(i)}
		if i%2 == 0 {
			n.Inline = Inline{Len: int(n.Size)}
		} else if n.Size > 0 {
			n.Extents = []Extent{{Len: n.Size, Device: 1, Block: uint64(i)}}
		}
		dir.Entries = append(dir.Entries, Dirent{fmt.Sprintf("some-file-name-%d.txt", i*7919%100003), n})
	}
	return root, WriteOptions{Devices: []Device{{Tag: "data", Blocks: uint64(count)}}, InlineData: bytes.NewReader(inline)}
}

func BenchmarkWrite(b *testing.B) {
	for _, count := range []int{1000, 100000} {
		b.Run(fmt.Sprintf("files=%d", count), func(b *testing.B) {
			root, o := manyFiles(count)
			b.ReportAllocs()
			var stats Stats
			for b.Loop() {
				var err error
				if stats, err = Write(&discard{}, root, o); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/file")
			b.ReportMetric(float64(stats.Padding)/float64(stats.MetaBytes), "padding/image")
		})
	}
}

func BenchmarkReadEverything(b *testing.B) {
	root, o := manyFiles(10000)
	m := &memImage{}
	if _, err := Write(m, root, o); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		fsys, err := Open(bytes.NewReader(m.b), int64(len(m.b)), zeroPadded{size: 10000 * BlockSize})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readAll(fsys, 1<<20, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// The tree of 100,000 files and the writer together must leave room in a process of 128 MiB.
func TestMemoryFor100000Files(t *testing.T) {
	var before, built, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	root, o := manyFiles(100000)
	runtime.GC()
	runtime.ReadMemStats(&built)
	if _, err := Write(&discard{}, root, o); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	tree, writer := built.HeapAlloc-before.HeapAlloc, after.TotalAlloc-built.TotalAlloc
	t.Logf("tree: %d KiB, allocated by Write: %d KiB", tree>>10, writer>>10)
	if tree > 48<<20 {
		t.Errorf("the tree takes %d bytes", tree)
	}
	if writer > 8<<20 {
		t.Errorf("Write allocated %d bytes", writer)
	}
	runtime.KeepAlive(root)
}
