package main

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/bench/inputs"
)

// imageRoot is where the Go toolchain lies in the image, as in the official one.
const imageRoot = "usr/local/go"

// builtImage describes an image that buildImage wrote.
type builtImage struct {
	layout     string // directory, an OCI layout
	compressed int64  // bytes of all layers as they are pulled
	unpacked   int64  // bytes of the files in them
}

// buildImage writes the Go toolchain at goroot as an OCI image of two gzip layers, programs below sources, into the new directory layout.
// The same toolchain gives the same image.
func buildImage(ctx context.Context, goroot, layout string) (builtImage, error) {
	programs := []string{"bin", "pkg"}
	var layers []inputs.Layer
	var unpacked [2]int64
	for i, keep := range []func(top string) bool{
		func(top string) bool { return slices.Contains(programs, top) },
		func(top string) bool { return !slices.Contains(programs, top) },
	} {
		layers = append(layers, func(ctx context.Context, w io.Writer) (err error) {
			archive := tar.NewWriter(w)
			if unpacked[i], err = addTree(ctx, archive, goroot, keep); err != nil {
				return err
			}
			return archive.Close()
		})
	}
	config := v1.ImageConfig{Env: []string{"PATH=/" + imageRoot + "/bin:/usr/bin:/bin"}, Cmd: []string{"go", "version"}}
	compressed, err := inputs.WriteImage(ctx, layout, config, layers...)
	if err != nil {
		return builtImage{}, fmt.Errorf("build image from %s: %w", goroot, err)
	}
	return builtImage{layout: layout, compressed: compressed, unpacked: unpacked[0] + unpacked[1]}, nil
}

// addTree appends imageRoot with its parents and the chosen entries of goroot, in the order of their names, and returns the bytes of the files.
func addTree(ctx context.Context, archive *tar.Writer, goroot string, keep func(top string) bool) (unpacked int64, err error) {
	for _, dir := range []string{"usr/", "usr/local/"} {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return 0, err
		}
	}
	err = filepath.WalkDir(goroot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel, err := filepath.Rel(goroot, path)
		if err != nil {
			return err
		}
		if top, _, _ := strings.Cut(rel, "/"); rel != "." && !keep(top) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		n, err := addFile(archive, path, filepath.Join(imageRoot, rel), entry)
		unpacked += n
		return err
	})
	return unpacked, err
}

// addFile appends one file, owned by root and without what differs from machine to machine.
func addFile(archive *tar.Writer, path, name string, entry fs.DirEntry) (int64, error) {
	info, err := entry.Info()
	if err != nil {
		return 0, err
	}
	var target string
	if info.Mode().Type() == fs.ModeSymlink {
		if target, err = os.Readlink(path); err != nil {
			return 0, err
		}
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	header.Name = name
	if info.IsDir() {
		header.Name += "/"
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.ModTime = info.ModTime().Truncate(time.Second)
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
	if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
		return 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return io.Copy(archive, file)
}
