package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/store"
)

func (d *fakeDaemon) CheckStore(_ context.Context, req control.CheckRequest) (control.CheckResponse, error) {
	d.asked = append(d.asked, req)
	return control.CheckResponse{Root: d.status.Root, OK: true}, nil
}

// storeWithAMeta makes a store that holds one metadata image, and returns its directory and the image's path.
func storeWithAMeta(t *testing.T) (root, meta string) {
	t.Helper()
	root = t.TempDir()
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte("meta")))
	if _, err := s.Meta(t.Context(), digest, func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, "meta")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return root, s.MetaPath(digest)
}

// TestCheckStoreAsksWhoHasTheStore: the daemon that has it, and nobody if it is at rest.
func TestCheckStoreAsksWhoHasTheStore(t *testing.T) {
	atRest, _ := storeWithAMeta(t)
	for _, c := range []struct {
		args   string
		status int
		asked  []any
		stdout string // a part
	}{
		{"--store", exitSuccess, []any{control.CheckRequest{}}, "nothing is wrong"},
		{"--store --repair SERVED", exitSuccess, []any{control.CheckRequest{Repair: true}}, "SERVED: 0 metas"},
		{"--store ATREST", exitSuccess, nil, "ATREST: 1 meta, "},
		{"--store --quiet ATREST", exitSuccess, nil, ""},
		{"--store /nonexistent", exitFailure, nil, ""},
		{"--store --against dir:/ ATREST", exitUsage, nil, ""},
		{"--store a b", exitUsage, nil, ""},
		{"--repair oci:x", exitUsage, nil, ""},
	} {
		d := &fakeDaemon{status: control.Status{Root: t.TempDir()}}
		fill := strings.NewReplacer("SERVED", d.status.Root, "ATREST", atRest).Replace
		status, stdout, stderr := pagein(t, append([]string{"pagein", "--address", serveFake(t, d), "check"}, strings.Fields(fill(c.args))...)...)
		if status != c.status || !strings.Contains(stdout, fill(c.stdout)) || !reflect.DeepEqual(d.asked, c.asked) {
			t.Errorf("%s: status %d, asked for %+v\n%s%s", c.args, status, d.asked, stdout, stderr)
		}
	}
}

// TestCheckStoreFindsAndRepairsDamage damages a metadata image.
func TestCheckStoreFindsAndRepairsDamage(t *testing.T) {
	root, meta := storeWithAMeta(t)
	if err := os.WriteFile(meta, []byte("mta"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := "unix://" + root + "/none"
	for _, c := range []struct {
		args   string
		status int
		stdout string
	}{
		{"", exitFailure, "bad: meta "},
		{"--repair", exitSuccess, "1 problem repaired\n"},
		{"", exitSuccess, "0 metas"},
	} {
		args := append([]string{"pagein", "--address", nobody, "check", "--store"}, append(strings.Fields(c.args), root)...)
		if status, stdout, stderr := pagein(t, args...); status != c.status || !strings.Contains(stdout, c.stdout) {
			t.Errorf("%q: status %d\n%s%s", c.args, status, stdout, stderr)
		}
	}
	s, err := store.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if status, _, stderr := pagein(t, "pagein", "--address", nobody, "check", "--store", root); status != exitFailure || !strings.Contains(stderr, "--address") {
		t.Errorf("of somebody else's: status %d, %s", status, stderr)
	}
}
