package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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

// bigFile is the size of the file that is read in order, in bytes. It does not compress.
const bigFile = 500_000_000

// benchRemote measures how much of a fast link one sequential reader gets.
func benchRemote(ctx context.Context, b *bench) (results []result, err error) {
	big := inputs.Generated("big", inputs.Files{Seed: 4, Count: 1, MinSize: bigFile, MaxSize: bigFile})
	_, err = b.lay(ctx, blob.WriterOptions{}, func(dst *layout.Store, o convert.Options) (convert.Result, error) {
		return b.streamed(ctx, big, dst, o)
	}, func(src *layout.Store, made convert.Result) error {
		for _, rtt := range []time.Duration{time.Millisecond, 10 * time.Millisecond} {
			b.progress("remote: a file of %d MB at 1 Gbit/s, %v", bigFile/1_000_000, rtt)
			shape := link.Config{Rate: 1e9, RTT: rtt}
			object, err := largestBlob(src)
			if err != nil {
				return err
			}
			var parts, plain []float64
			for range min(b.runs, 3) {
				err := b.overLink(ctx, src, made, shape, func(node *lab.Node, l *link.Link, ref string) error {
					began := time.Now()
					if err := download(ctx, "http://"+l.Addr()+"/v2/bench/small/blobs/"+object.digest); err != nil {
						return err
					}
					plain = append(plain, float64(object.size)*8/time.Since(began).Seconds()/float64(shape.Rate))
					return b.mounted(ctx, node, ref, func(mnt string, _ time.Time) error {
						began := time.Now()
						if _, err := lab.Output(lab.Command(ctx, "dd", "if="+filepath.Join(mnt, "big/0000/file-000000"), "of=/dev/null", "bs=1M", "status=none")); err != nil {
							return err
						}
						parts = append(parts, bigFile*8/time.Since(began).Seconds()/float64(shape.Rate))
						return nil
					})
				})
				if err != nil {
					return err
				}
			}
			results = append(results, atLeast(fmt.Sprintf("sequential cold read at 1 Gbit/s, %v", rtt), median(parts), 0.9, "",
				fmt.Sprintf("of the link (a plain download of the blob: %.2g), a file of %d MB that does not compress, distribution's registry, median of %d", median(plain),
					bigFile/1_000_000, len(parts))))
		}
		return nil
	})
	return results, err
}

// streamed converts a made-up layer.
func (b *bench) streamed(ctx context.Context, l inputs.Layer, dst *layout.Store, o convert.Options) (convert.Result, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(l(ctx, writer)) }()
	defer reader.Close()
	return convert.Tar(ctx, reader, dst, o)
}

// mounted mounts an image with nothing of it in any cache and has it used, which is told when the mount began.
func (b *bench) mounted(ctx context.Context, node *lab.Node, ref string, use func(mnt string, began time.Time) error) error {
	mnt, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return err
	}
	defer os.Remove(mnt)
	if err := errors.Join(lab.DropCaches(), lab.Warm(node.Programs()...)); err != nil {
		return err
	}
	began := time.Now()
	if err := node.Mount(ctx, ref, mnt); err != nil {
		return err
	}
	return errors.Join(use(mnt, began), node.Unmount(ctx, mnt))
}

// download reads a URL to its end.
func download(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("download %s: %s: %w", url, resp.Status, errors.Join(err, errShort))
	}
	return nil
}
