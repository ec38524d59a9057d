package difftest_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/pagein/pagein/internal/difftest"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
)

func newLayout(t testing.TB) *layout.Store {
	t.Helper()
	l, err := layout.Create(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func artifactOfDir(t testing.TB, dir string) difftest.Image {
	t.Helper()
	l := newLayout(t)
	r, err := convert.Dir(context.Background(), dir, l, convert.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return difftest.Unpack(t, l, r.Descriptor)
}
