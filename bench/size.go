package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/oci/convert"
)

// benchSize compares blobs and metadata with the layer that gzip -6 makes of the same tar. Packages in apt's cache, which images do not have, are left
// out.
func benchSize(ctx context.Context, b *bench) ([]result, error) {
	goroot, err := inputs.Goroot(ctx)
	if err != nil {
		return nil, err
	}
	debian, err := inputs.Debian(ctx, b.progress)
	if err != nil {
		return nil, err
	}
	var results []result
	for _, tree := range []struct {
		name, path string
		exclude    []string
	}{
		{"Go source tree", filepath.Join(goroot, "src"), nil},
		{"Debian root", debian, []string{"var/cache/apt/archives/*.deb"}},
	} {
		got, err := b.size(ctx, tree.name, tree.path, tree.exclude)
		results = append(results, got...)
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func (b *bench) size(ctx context.Context, name, dir string, exclude []string) ([]result, error) {
	b.progress("size: %s", name)
	path := filepath.Join(b.dir, "size.tar")
	defer os.Remove(path)
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var gzipped int64
	layer := inputs.Tar(dir, exclude...)
	gzipped, err = inputs.Gzip(ctx, io.Discard, func(ctx context.Context, w io.Writer) error { return layer(ctx, io.MultiWriter(file, w)) })
	if err != nil {
		return nil, err
	}
	var results []result
	var made convert.Result
	for _, l := range []struct {
		level string
		limit float64
	}{{"fast", 0}, {"default", 0.90}, {"best", 0.85}} {
		if made, err = b.convert(ctx, new(usage), nil, "--level", l.level, "tar:"+path); err != nil {
			return results, err
		}
		r := result{
			Name: "size, " + name + ", " + l.level + " level", Value: float64(made.Compressed+made.Meta) / float64(gzipped),
			Detail: fmt.Sprintf("× gzip -6: blob %.1f + meta %.2f MB / %.1f MB; whole artifact %.1f MB", float64(made.Compressed)/1e6, float64(made.Meta)/1e6,
				float64(gzipped)/1e6, float64(made.Stored)/1e6),
		}
		if l.limit > 0 {
			r = atMost(r.Name, r.Value, l.limit, "", r.Detail)
		}
		results = append(results, r)
	}
	inodes, nameBytes, err := inputs.Census(dir)
	if err != nil {
		return results, err
	}
	return append(results, atMost("compressed metadata, "+name+", per inode without names", float64(made.Meta-nameBytes)/float64(inodes), 25, "bytes",
		fmt.Sprintf("(%d − %d bytes of names) / %d inodes; %d bytes of small files are in it, too", made.Meta, nameBytes, inodes, made.Inlined))), nil
}

// convert runs pagein convert with arguments that end with the source, into an image layout that is new and removed afterwards, and returns what it reports.
func (b *bench) convert(ctx context.Context, u *usage, stdin io.Reader, args ...string) (made convert.Result, err error) {
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return made, err
	}
	out := filepath.Join(b.dir, "made")
	defer os.RemoveAll(out)
	cmd := lab.Command(ctx, pagein, append(append([]string{"convert", "--json", "--temp-dir", b.dir}, args...), "oci:"+out)...)
	cmd.Stdin = stdin
	text, err := u.run(cmd)
	if err != nil {
		return made, err
	}
	return made, json.Unmarshal(text, &made)
}
