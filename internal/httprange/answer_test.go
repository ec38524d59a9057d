package httprange

import (
	"fmt"
	"strings"
	"testing"
)

func FuzzContentRange(f *testing.F) {
	for _, h := range []string{"bytes 10-19/100", "bytes 10-19/*", "BYTES 10-19/100", "bytes */100", "bytes 10-19", "bytes +10-19/100", ""} {
		f.Add(h, int64(10), int64(10), int64(100))
	}
	f.Fuzz(func(t *testing.T, h string, off, n, size int64) {
		if off < 0 || n <= 0 || size <= 0 || off > size-n {
			return
		}
		if err := checkContentRange(h, off, n, size); err != nil {
			return
		}
		var first, last int64
		if _, err := fmt.Sscanf(strings.ToLower(h), "bytes %d-%d/", &first, &last); err != nil || first != off || last != off+n-1 {
			t.Fatalf("%q is taken for bytes %d to %d of %d", h, off, off+n-1, size)
		}
		if !strings.HasSuffix(h, "/*") && !strings.HasSuffix(h, fmt.Sprint(size)) {
			t.Fatalf("%q is taken for a part of %d bytes", h, size)
		}
	})
}
