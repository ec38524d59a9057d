package mkfs

import (
	"archive/tar"
	"bytes"
	"context"
	"github.com/pagein/pagein/internal/tartest"
	"strings"
	"testing"
)

func TestNamesAndAttributesOfAllTarsAreBoundedTogether(t *testing.T) {
	m := tartest.File("some-name", "")
	m.Format, m.PAXRecords = tar.FormatPAX, map[string]string{"SCHILY.xattr.user.x": strings.Repeat("v", 2000)}
	layer := tartest.Archive(t, m)
	const each int64 = memberBytes + int64(len("some-name")+len("user.x")+2000)
	for left, fits := range map[int64]bool{2 * each: true, 2*each - 1: false} {
		tree, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		tree.held.Store(maxHeld - left)
		err = tree.ApplyLayer(t.Context(), bytes.NewReader(layer), &memorySink{})
		if err == nil {
			err = tree.ApplyLayer(t.Context(), bytes.NewReader(layer), &memorySink{})
		}
		check := func(how string, err error) {
			if (err == nil) != fits || !fits && (!strings.Contains(err.Error(), "some-name") || !strings.Contains(err.Error(), "4 GiB")) {
				t.Errorf("%s, with room for %d bytes: %v", how, left, err)
			}
		}
		check("one after the other", err)

		p, err := newPacker(t.Context(), PackOptions{TempDir: t.TempDir()}, 2)
		if err != nil {
			t.Fatal(err)
		}
		p.tree.held.Store(maxHeld - left)
		read := func(ctx context.Context, l *Layer) error { return l.ReadLayer(ctx, bytes.NewReader(layer)) }
		check("packed", p.run(t.Context(), []Read{read, read}))
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}
