package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/oci/convert"
)

// benchDict converts a Debian root, changes every tenth file, and compares what its new version adds to the same repository, with the old one as dictionary
// and without.
func benchDict(ctx context.Context, b *bench) ([]result, error) {
	debian, err := inputs.Debian(ctx, b.progress)
	if err != nil {
		return nil, err
	}
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "dict-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b.progress("dict: converting a Debian root and its next version")
	root, layout := filepath.Join(dir, "root"), "oci:"+filepath.Join(dir, "layout")
	if _, err := lab.Output(lab.Command(ctx, "cp", "-a", debian, root)); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(filepath.Join(root, "var/cache/apt/archives")); err != nil {
		return nil, err
	}
	if _, err := lab.Output(lab.Command(ctx, pagein, "convert", "--quiet", "dir:"+root, layout+":one")); err != nil {
		return nil, err
	}
	changed, total, err := changeEveryTenth(root)
	if err != nil {
		return nil, err
	}
	full, err := b.convert(ctx, new(usage), nil, "dir:"+root)
	if err != nil {
		return nil, err
	}
	var second convert.Result
	out, err := lab.Output(lab.Command(ctx, pagein, "convert", "--json", "--dict", layout+":one", "dir:"+root, layout+":two"))
	if err := errors.Join(err, json.Unmarshal(out, &second)); err != nil {
		return nil, err
	}
	return []result{atMost("second version with --dict", float64(second.Sent)/float64(full.Sent), 0.15, "",
		fmt.Sprintf("× full conversion: %.1f MB / %.1f MB sent; %.1f MB of %.1f MB of data changed, meta %.1f MB", float64(second.Sent)/1e6, float64(full.Sent)/1e6,
			float64(changed)/1e6, float64(total)/1e6, float64(second.Meta)/1e6))}, nil
}

// changeEveryTenth reverses the bytes of every tenth regular file below dir, in the order of their sizes, so that a tenth of the bytes is changed, too. That
// changes all of a file and hardly how it compresses. It returns how many bytes of how many were changed.
func changeEveryTenth(dir string) (changed, total int64, err error) {
	type file struct {
		path string
		size int64
		perm fs.FileMode
	}
	var files []file
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files = append(files, file{path, info.Size(), info.Mode().Perm()})
		total += info.Size()
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(b.size, a.size) })
	for i := 5; i < len(files); i += 10 {
		data, err := os.ReadFile(files[i].path)
		if err != nil {
			return 0, 0, err
		}
		slices.Reverse(data)
		if err := os.WriteFile(files[i].path, data, files[i].perm); err != nil {
			return 0, 0, err
		}
		changed += files[i].size
	}
	return changed, total, nil
}
