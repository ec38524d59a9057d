package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/kmount"
	"github.com/pagein/pagein/oci/layout"
)

const (
	// insideName is where this program lies in an image; as argv[0] it makes it a reader.
	insideName = "/reader"
	insideFile = "/data/0000/file-000000" // of localData bytes
)

// readInside is what the reader does in a container: it reads files to their end, or reads one in order or at random and prints megabytes or reads a second.
func readInside(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "all":
		return filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
			if path == "/proc" || path == "/sys" || path == "/dev" {
				return filepath.SkipDir
			}
			if err == nil && entry.Type().IsRegular() {
				_, err = readFile(path, make([]byte, 1<<20))
			}
			return err
		})
	case len(args) == 1 && args[0] == "order":
		began := time.Now()
		n, err := readFile(insideFile, make([]byte, 1<<20))
		fmt.Printf("%.0f\n", float64(n)/1e6/time.Since(began).Seconds())
		return err
	case len(args) == 2 && args[0] == "random":
		readers, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		rate, err := preads(context.Background(), insideFile, readers)
		fmt.Printf("%.0f\n", rate)
		return err
	}
	return fmt.Errorf("arguments %q: want all, order, or random and a number", args)
}

// inside is a way to read, and what pagein must reach.
type inside struct {
	name, unit        string
	args              []string
	overlayfs, stargz float64 // at least so many times the rate of each
}

func insides() []inside {
	return []inside{
		{"4 KiB at random, 1 reader", "/s", []string{insideName, "random", "1"}, 0.95, 2},
		{"4 KiB at random, 4 readers", "/s", []string{insideName, "random", "4"}, 0.95, 2},
		{"1 MiB in order", "MB/s", []string{insideName, "order"}, 0.95, 2},
	}
}

// benchInside reads a file in containers of an image that is on this machine as a whole, with an empty page cache: on a lazy mount that is complete, on overlayfs, and through
// stargz-snapshotter, which has it in its cache.
func benchInside(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "inside-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	all, err := b.readerImages(ctx, dir)
	if err != nil {
		return nil, err
	}
	at, err := b.serve(ctx, dir, plainServer, all)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, at.stop()) }()
	runners := make(map[string]runner)
	defer func() {
		for _, r := range runners {
			err = errors.Join(err, r.Stop())
		}
		err = errors.Join(err, lab.UnmountBelow(dir))
	}()
	for name, s := range all.sides {
		b.progress("inside: everything is read with %s", name)
		home := filepath.Join(dir, name)
		if err := os.Mkdir(home, 0o700); err != nil {
			return nil, err
		}
		r, err := s.start(ctx, home)
		if err != nil {
			return nil, err
		}
		runners[name] = r
		if err := readWhole(ctx, r, at.addr+"/"+s.ref); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, w := range insides() {
		rates := make(map[string][]float64)
		for range b.runs {
			for name, r := range runners {
				rate, err := w.rate(ctx, r, at.addr+"/"+all.sides[name].ref)
				if err != nil {
					return results, fmt.Errorf("%s, %s: %w", name, w.name, err)
				}
				rates[name] = append(rates[name], rate)
			}
		}
		lazy := median(rates[ours])
		for name, least := range map[string]float64{full: w.overlayfs, stargz: w.stargz} {
			results = append(results, atLeast(w.name+" in a container, data local, cold", lazy/median(rates[name]), least, "",
				fmt.Sprintf("× %s: %s / %s %s; median of %d", name, whole(rates[ours]), whole(rates[name]), w.unit, b.runs)))
		}
	}
	return results, nil
}

// rate is what a reader gets with an empty page cache.
func (w inside) rate(ctx context.Context, r runner, ref string) (float64, error) {
	if err := errors.Join(lab.DropCaches(), lab.Warm(r.Programs()...)); err != nil {
		return 0, err
	}
	out, err := r.Run(ctx, ref, w.args...)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(string(bytes.TrimSpace(out)), 64)
}

// readWhole has all of an image on this machine. The kernel must not ask pagein about it any more.
func readWhole(ctx context.Context, r runner, ref string) error {
	if _, err := r.Run(ctx, ref, insideName, "all"); err != nil {
		return err
	}
	served, ok := r.(*lab.ServedNode)
	if !ok {
		return nil
	}
	if err := complete(ctx, served.Node()); err != nil {
		return err
	}
	if err := unmarked(ctx, served.Node()); err != nil {
		return err
	}
	return direct(ctx, served.Node())
}

// direct waits until the kernel reads the node's only image past the page cache of its blobs' files, as it does with large files where that is sound.
func direct(ctx context.Context, node *lab.Node) error {
	if !kmount.DirectIsSound() {
		return nil
	}
	status, err := node.Status(ctx)
	if err != nil {
		return err
	}
	if len(status.Images) != 1 || len(status.Images[0].Targets) == 0 {
		return fmt.Errorf("one image should be mounted: %+v", status.Images)
	}
	for range 100 {
		m, ok, err := kmount.Lookup(status.Images[0].Targets[0])
		if err != nil || ok && m.ReadsDirectly() {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the image is complete and of large files, and still the kernel reads it through the page cache of its blobs' files")
}

// readerImages are an image with this program and a large file that does not compress, in all formats.
func (b *bench) readerImages(ctx context.Context, dir string) (*images, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	tree, plain, lazy, estargz := filepath.Join(dir, "tree"), filepath.Join(dir, "plain"), filepath.Join(dir, "lazy"), filepath.Join(dir, "estargz")
	program, err := os.ReadFile(self)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Mkdir(tree, 0o755), os.WriteFile(filepath.Join(tree, insideName), program, 0o755), os.Mkdir(estargz, 0o755)); err != nil { // #nosec G306 -- it is to be run
		return nil, err
	}
	b.progress("inside: an image with a file of %d MB", localData>>20)
	data := inputs.Generated("data", inputs.Files{Seed: 9, Count: 1, MinSize: localData, MaxSize: localData})
	if _, err := inputs.WriteImage(ctx, plain, v1.ImageConfig{}, inputs.Tar(tree), data); err != nil {
		return nil, err
	}
	for _, convert := range [][]string{{"pagein", "convert", "--quiet", "--temp-dir", dir, "oci:" + plain, "oci:" + lazy}, {"bench-peers", "estargz", plain, estargz}} {
		program, err := lab.Ours(convert[0])
		if err != nil {
			return nil, err
		}
		if _, err := lab.Output(lab.Command(ctx, program, convert[1:]...)); err != nil {
			return nil, err
		}
	}
	var stores [3]*layout.Store
	for i, dir := range []string{plain, lazy, estargz} {
		if stores[i], err = layout.Open(dir); err != nil {
			return nil, err
		}
	}
	return newImages(stores[0], stores[1], stores[2])
}
