package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/oci/layout"
)

// optimizedSmall is benchProfile of W3, a thousand of image A's small files, in containers: image A laid out for it beside stargz-snapshotter, which knows nothing of it.
func (b *bench) optimizedSmall(ctx context.Context, dir string) (_ []result, err error) {
	dir = filepath.Join(dir, "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	all, err := b.imagesOfA(ctx, dir)
	if err != nil {
		return nil, err
	}
	plain, err := all.lazy.Only()
	if err != nil {
		return nil, err
	}
	before, err := b.serve(ctx, dir, plainServer, all)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, before.stop()) }()
	o, err := b.optimizing(dir)
	if err != nil {
		return nil, err
	}
	o.layout, o.plain = all.lazy.Dir(), plain.Digest.String()
	w := workloads()[3]
	var image *laidOut
	if err := b.recorder(ctx, before, all.sides[ours], w, func(record func(string) error) error {
		b.progress("profile: recording %s", w.name)
		image, err = o.optimize(ctx, w.short(), record)
		return err
	}); err != nil {
		return nil, err
	}
	view, err := viewOf(filepath.Join(dir, "view"), all.lazy, image.Descriptor)
	if err != nil {
		return nil, err
	}
	optimized, err := newImages(all.plain, view, all.estargz)
	if err != nil {
		return nil, err
	}
	after, err := b.serve(ctx, dir, plainServer, optimized)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, after.stop()) }()
	var best, peer costs
	for range min(b.runs, 3) {
		if err := b.contain(ctx, after, slowLink, optimized.sides[ours], w, &best); err != nil {
			return nil, err
		}
		if err := b.contain(ctx, before, slowLink, all.sides[stargz], w, &peer); err != nil {
			return nil, err
		}
	}
	return []result{atMost(w.name+" optimized", median(best.seconds)/median(peer.seconds), 0.1, "", fmt.Sprintf(
		"× stargz-snapshotter: %v / %v; %.1f MB touched, %.1f MB compressed; median of %d", &best, &peer, image.touched/1e6, image.compressed()/1e6, len(best.seconds)))}, nil
}

// recorder has a function used that records a run of a workload in a container, with no link in between.
func (b *bench) recorder(ctx context.Context, at *server, s side, w workload, use func(record func(file string) error) error) error {
	return b.start(ctx, at, link.Config{Rate: 10e9}, s, func(r started) error {
		served, ok := r.runner.(*lab.ServedNode)
		if !ok {
			return errors.New("only pagein's images can be recorded")
		}
		if _, _, err := r.run(ctx, s, workload{args: []string{"/bin/true"}}); err != nil { // now it is mounted
			return err
		}
		return use(func(file string) error {
			if err := lab.DropCaches(); err != nil { // what is cached is mapped with its neighbours
				return err
			}
			recording, err := served.Node().TraceNext(ctx, file, r.link.Addr()+"/"+s.ref)
			if err != nil {
				return err
			}
			_, _, err = r.run(ctx, s, w)
			return errors.Join(err, recording.Stop())
		})
	})
}

// viewOf makes a layout of one manifest of another layout, with its blobs.
func viewOf(dir string, of *layout.Store, desc v1.Descriptor) (*layout.Store, error) {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{desc}}
	text, err := json.Marshal(index)
	if err == nil {
		err = os.Mkdir(dir, 0o700)
	}
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, v1.ImageIndexFile), text, 0o600), os.Symlink(filepath.Join(of.Dir(), v1.ImageBlobsDir), filepath.Join(dir, v1.ImageBlobsDir)),
			os.WriteFile(filepath.Join(dir, v1.ImageLayoutFile), []byte(`{"imageLayoutVersion":"`+v1.ImageLayoutVersion+`"}`), 0o600))
	}
	if err != nil {
		return nil, err
	}
	return layout.Open(dir)
}
