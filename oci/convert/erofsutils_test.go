package convert_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
)

// unpacked writes the metadata image and the blobs of an artifact as files and returns the arguments that erofs-utils want for them.
func unpacked(t *testing.T, l *layout.Store, r convert.Result) (args []string, blocks int64) {
	t.Helper()
	a, err := artifact.Load(context.Background(), l, r.Descriptor, "test")
	if err != nil {
		t.Fatal(err)
	}
	var meta bytes.Buffer
	if err := a.FetchMeta(context.Background(), &meta); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		blocks += int64(len(b)) / 4096
		return path
	}
	for i := range a.Blobs {
		args = append(args, "--device="+write(fmt.Sprint("blob", i), decode(t, l, a, i)))
	}
	return append(args, write("meta", meta.Bytes())), blocks
}

func erofsTool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(require.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestErofsUtilsAcceptAndUnpackWhatIsConverted(t *testing.T) {
	require.Root(t) // fsck.erofs gives files their owners
	ctx, dir := context.Background(), sourceTree(t)
	for name, source := range map[string]func(dst *layout.Store) (convert.Result, fs.FS, error){
		"directory": func(dst *layout.Store) (convert.Result, fs.FS, error) {
			r, err := convert.Dir(ctx, dir, dst, convert.Options{})
			return r, os.DirFS(dir), err
		},
		"image": func(dst *layout.Store) (convert.Result, fs.FS, error) {
			r, err := convert.Image(ctx, dst, pushImage(t, dst, layersOfApp(t)...), dst, convert.Options{})
			return r, open(t, dst, r.Descriptor), err
		},
		"nothing": func(dst *layout.Store) (convert.Result, fs.FS, error) {
			empty := t.TempDir()
			r, err := convert.Dir(ctx, empty, dst, convert.Options{})
			return r, os.DirFS(empty), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dst := newLayout(t)
			r, want, err := source(dst)
			if err != nil {
				t.Fatal(err)
			}
			args, blocks := unpacked(t, dst, r)
			dump := strings.Join(strings.Fields(erofsTool(t, "dump.erofs", append([]string{"-s"}, args...)...)), " ")
			for _, part := range []string{fmt.Sprint("Filesystem blocks: ", blocks, " "), "sb_csum"} {
				if !strings.Contains(dump, part) {
					t.Errorf("dump.erofs says %q, not %q", dump, part)
				}
			}
			out := filepath.Join(t.TempDir(), "out")
			erofsTool(t, "fsck.erofs", append([]string{"--extract=" + out}, args...)...)
			sameTree(t, os.DirFS(out), want)
		})
	}
}
