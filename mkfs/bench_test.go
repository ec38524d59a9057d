package mkfs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/internal/require"
)

// BenchmarkDirectoryAgainstMkfsErofs writes the same tree with this package and with mkfs.erofs in turn and reports our wall time divided
// by its. The tree is the Go toolchain, or what PAGEIN_BENCH_TREE names; run it once before to have it in the page cache.
func BenchmarkDirectoryAgainstMkfsErofs(b *testing.B) {
	other := require.Tool(b, "mkfs.erofs")
	source := os.Getenv("PAGEIN_BENCH_TREE")
	if source == "" {
		out, err := exec.Command(require.Tool(b, "go"), "env", "GOROOT").Output()
		if err != nil {
			b.Fatal(err)
		}
		source = strings.TrimSpace(string(out))
	}
	ours, theirs := filepath.Join(b.TempDir(), "ours"), filepath.Join(b.TempDir(), "theirs")
	var took, otherTook time.Duration
	write := func() {
		if _, err := WriteImage(context.Background(), ours, dirOf(source), ImageOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	write()
	for b.Loop() {
		for _, old := range []string{ours, theirs} {
			if err := os.Remove(old); err != nil && !os.IsNotExist(err) {
				b.Fatal(err)
			}
		}
		start := time.Now()
		write()
		took += time.Since(start)
		start = time.Now()
		if out, err := exec.Command(other, "--quiet", theirs, source).CombinedOutput(); err != nil {
			b.Fatalf("mkfs.erofs: %v\n%s", err, out)
		}
		otherTook += time.Since(start)
	}
	b.ReportMetric(took.Seconds()/float64(b.N), "ours-s/op")
	b.ReportMetric(otherTook.Seconds()/float64(b.N), "mkfs.erofs-s/op")
	b.ReportMetric(took.Seconds()/otherTook.Seconds(), "ratio")
}
