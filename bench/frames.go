package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/convert"
	"github.com/pagein/pagein/oci/layout"
)

// slowLink is 200 Mbit/s and 10 ms.
var slowLink = link.Config{Rate: 200e6, RTT: 10 * time.Millisecond}

// smallFrames are the sizes of frames for small files that are tried, in KiB.
var smallFrames = [...]int{32, 64, 128, 256}

// largeFrames are those for larger files.
var largeFrames = [...]int{64, 128, 256, 512, 1024}

// benchFrames draws the curves by which the sizes of frames were chosen: what an image of the Go source tree needs, and what it costs to read a thousand of
// 20,000 small files, one after the other, over a link of 200 Mbit/s and 10 ms.
func benchFrames(ctx context.Context, b *bench) ([]result, error) {
	goroot, err := inputs.Goroot(ctx)
	if err != nil {
		return nil, err
	}
	var shapes []blob.WriterOptions
	for _, kib := range smallFrames {
		shapes = append(shapes, frames(kib, blob.LargeFrame>>10))
	}
	for _, kib := range largeFrames {
		if kib != blob.LargeFrame>>10 {
			shapes = append(shapes, frames(blob.SmallFrame>>10, kib))
		}
	}
	var results []result
	for _, shape := range shapes {
		b.progress("frames: Go source tree in frames of %d and %d KiB", shape.SmallFrame>>10, shape.LargeFrame>>10)
		began := time.Now()
		made, err := b.lay(ctx, shape, func(dst *layout.Store, o convert.Options) (convert.Result, error) {
			return convert.Dir(ctx, filepath.Join(goroot, "src"), dst, o)
		}, nil)
		if err != nil {
			return results, err
		}
		results = append(results, result{
			Name:  fmt.Sprintf("Go source tree, frames of %d KiB for small and %d KiB for large files", shape.SmallFrame>>10, shape.LargeFrame>>10),
			Value: float64(made.Compressed) / 1e6, Unit: "MB", Detail: fmt.Sprintf("%d frames, converted in %.2f s", made.Frames, time.Since(began).Seconds()),
		})
	}
	for _, kib := range smallFrames {
		r, err := b.readSmall(ctx, frames(kib, blob.LargeFrame>>10))
		if err != nil {
			return results, err
		}
		results = append(results, result{
			Name: fmt.Sprintf("1,000 of 20,000 small files, frames of %d KiB", kib), Value: r.seconds, Unit: "s",
			Detail: fmt.Sprintf("%.1f MB fetched, %.1f bytes for each of %.1f MB read; blob of %.1f MB", float64(r.fetched)/1e6, float64(r.fetched)/float64(r.size),
				float64(r.size)/1e6, float64(r.stored)/1e6),
		})
	}
	return results, nil
}

// frames are options with the sizes of frames given in KiB.
func frames(small, large int) blob.WriterOptions {
	return blob.WriterOptions{SmallFile: min(blob.SmallFile, small<<10), SmallFrame: small << 10, LargeFrame: large << 10}
}

// lay converts into a new image layout, has it used, and removes it.
func (b *bench) lay(ctx context.Context, shape blob.WriterOptions, convertTo func(*layout.Store, convert.Options) (convert.Result, error),
	use func(*layout.Store, convert.Result) error) (made convert.Result, err error) {
	dir, err := os.MkdirTemp(b.dir, "frames-")
	if err != nil {
		return made, err
	}
	defer os.RemoveAll(dir)
	dst, err := layout.Create(filepath.Join(dir, "layout"))
	if err != nil {
		return made, err
	}
	if made, err = convertTo(dst, convert.Options{Blob: shape, TempDir: dir}); err != nil || use == nil {
		return made, errors.Join(err, ctx.Err())
	}
	return made, use(dst, made)
}

// smallRead is what reading a thousand small files cost.
type smallRead struct {
	seconds float64
	fetched int64 // bytes
	size    int64 // bytes read
	stored  int64 // bytes of the blob
}

// readSmall measures from the mount to the last byte of a thousand small files.
func (b *bench) readSmall(ctx context.Context, shape blob.WriterOptions) (r smallRead, err error) {
	b.progress("%d of %d small files over a link, frames of %d KiB", smallPicked, imageAFiles, shape.SmallFrame>>10)
	small := inputs.Generated("small", inputs.Files{Seed: 2, Count: imageAFiles, MinSize: 4 << 10, MaxSize: 16 << 10, Text: 0.5})
	_, err = b.lay(ctx, shape, func(dst *layout.Store, o convert.Options) (convert.Result, error) {
		return b.streamed(ctx, small, dst, o)
	}, func(src *layout.Store, made convert.Result) error {
		r.stored = made.Compressed
		return b.overLink(ctx, src, made, slowLink, func(node *lab.Node, l *link.Link, ref string) error {
			before := l.Counters().Down
			err := b.mounted(ctx, node, ref, func(mnt string, began time.Time) (err error) {
				r.size, err = catFiles(ctx, mnt, imageAFiles, smallPicked)
				r.seconds = time.Since(began).Seconds()
				return err
			})
			if err != nil {
				return err
			}
			r.fetched = l.Counters().Down - before
			return nil
		})
	})
	return r, err
}

// overLink pushes an artifact to a registry and hands a daemon, the link between both and the artifact's name to use.
func (b *bench) overLink(ctx context.Context, src *layout.Store, made convert.Result, shape link.Config, use func(*lab.Node, *link.Link, string) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "link-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	service, address, err := startDistribution(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Stop()) }()
	if err := push(ctx, src, made.Descriptor, address+"/bench/small"); err != nil {
		return err
	}
	shape.Target = address
	l, err := link.Start(shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	node, err := lab.StartNode(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()
	return use(node, l, l.Addr()+"/bench/small@"+made.Descriptor.Digest.String())
}

// catFiles reads some of the files that [inputs.Generated] made below mnt, in random order, in another process: this one serves the link.
func catFiles(ctx context.Context, mnt string, files, picked int) (int64, error) {
	var names bytes.Buffer
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(files)[:picked] {
		fmt.Fprintf(&names, "%s/small/%04d/file-%06d\x00", mnt, i/100, i)
	}
	cmd := lab.Command(ctx, "/bin/sh", "-c", "xargs -0 -n 1000000 -s 1000000 cat | wc -c")
	cmd.Stdin = &names
	out, err := lab.Output(cmd)
	if err != nil {
		return 0, err
	}
	var size int64
	if _, err := fmt.Sscan(string(out), &size); err != nil || size < int64(picked)*4<<10 {
		return 0, fmt.Errorf("read %q bytes of %d files: %w", bytes.TrimSpace(out), picked, errors.Join(err, errShort))
	}
	return size, nil
}

var errShort = errors.New("not all was read")
