package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/oci/layout"
)

// runner is a containerd with a snapshotter.
type runner interface {
	Run(ctx context.Context, ref string, args ...string) ([]byte, error)
	Programs() []string
	Stop() error
}

// side is a snapshotter in the comparison.
type side struct {
	name, ref string // the image that it pulls: bench/NAME@DIGEST
	start     func(ctx context.Context, dir string) (runner, error)
}

// The sides.
const (
	ours   = "pagein"
	stargz = "stargz-snapshotter"
	full   = "overlayfs" // a full pull
)

// images are image A in the formats that the sides pull.
type images struct {
	plain, lazy, estargz *layout.Store // the artifact in lazy belongs to the image in plain
	sides                map[string]side
}

// imagesOfA makes or finds all formats of image A; what is not kept lies below dir.
func (b *bench) imagesOfA(ctx context.Context, dir string) (*images, error) {
	source, err := inputs.ImageA(ctx, b.progress)
	if err != nil {
		return nil, err
	}
	plain, err := layout.Open(source)
	if err != nil {
		return nil, err
	}
	lazy, estargz, err := b.contestants(ctx, dir)
	if err != nil {
		return nil, err
	}
	return newImages(plain, lazy.image, estargz.image)
}

// newImages says who pulls what.
func newImages(plain, lazy, estargz *layout.Store) (*images, error) {
	image, err := plain.Only()
	if err != nil {
		return nil, err
	}
	converted, err := estargz.Only()
	if err != nil {
		return nil, err
	}
	original := "bench/image@" + image.Digest.String()
	return &images{plain, lazy, estargz, map[string]side{
		full: {full, original, func(ctx context.Context, dir string) (runner, error) {
			return lab.StartContainerd(ctx, dir, lab.Overlayfs, "")
		}},
		ours:   {ours, original, func(ctx context.Context, dir string) (runner, error) { return lab.StartServedNode(ctx, dir) }},
		stargz: {stargz, "bench/stargz@" + converted.Digest.String(), func(ctx context.Context, dir string) (runner, error) { return lab.StartStargz(ctx, dir) }},
	}}, nil
}

// server is a registry with all images.
type server struct {
	name, addr string
	requests   func() []lab.Request // since the last call; nil if that is not known
	stop       func() error
}

const (
	plainServer  = "static"
	distribution = "distribution"
)

// serve starts a registry of the given name, one of the two above, with the images.
func (b *bench) serve(ctx context.Context, dir, name string, all *images) (*server, error) {
	if name == plainServer {
		static, err := lab.StartStatic(map[string][]string{"image": {all.plain.Dir(), all.lazy.Dir()}, "stargz": {all.estargz.Dir()}})
		if err != nil {
			return nil, err
		}
		return &server{"a plain file server", static.Addr(), static.Requests, static.Stop}, nil
	}
	home := filepath.Join(dir, name)
	if err := os.Mkdir(home, 0o700); err != nil {
		return nil, err
	}
	registry, addr, err := startDistribution(ctx, home)
	if err != nil {
		return nil, err
	}
	for _, image := range []struct {
		from *layout.Store
		to   string
	}{{all.plain, "image"}, {all.lazy, "image"}, {all.estargz, "stargz"}} {
		b.progress("containers: pushing %s to distribution's registry", image.from.Dir())
		desc, err := image.from.Only()
		if err == nil {
			err = push(ctx, image.from, desc, addr+"/bench/"+image.to)
		}
		if err != nil {
			return nil, errors.Join(err, registry.Stop())
		}
	}
	return &server{name: "distribution's registry", addr: addr, stop: func() error { return errors.Join(registry.Stop(), os.RemoveAll(home)) }}, nil
}

// costs are what runs took.
type costs struct{ seconds, megabytes, requests []float64 }

// String has medians and the range of the times.
func (c *costs) String() string {
	s := fmt.Sprintf("%s s, %.1f MB", spread(c.seconds), median(c.megabytes))
	if len(c.requests) > 0 {
		s += fmt.Sprintf(", %.0f requests", median(c.requests))
	}
	return s
}

// started is a runner that has nothing in any store or cache, behind a link.
type started struct {
	runner
	link *link.Link
}

// start has a side used behind a link to a server.
func (b *bench) start(ctx context.Context, at *server, shape link.Config, s side, use func(started) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	shape.Target = at.addr
	l, err := link.Start(shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	r, err := s.start(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()
	return use(started{r, l})
}

// run pulls the side's image, unless it is there already, and runs a workload to its end, with an empty page cache. It returns when it began and how long all of that took.
func (r started) run(ctx context.Context, s side, w workload) (began time.Time, took time.Duration, err error) {
	if err := errors.Join(lab.DropCaches(), lab.Warm(r.Programs()...)); err != nil {
		return began, 0, err
	}
	began = time.Now()
	out, err := r.Run(ctx, r.link.Addr()+"/"+s.ref, w.args...)
	took = time.Since(began)
	if err == nil && w.prints != "" && string(bytes.TrimSpace(out)) != w.prints {
		err = fmt.Errorf("it printed %q, want %q", out, w.prints)
	}
	return began, took, err
}

// contain is one run with nothing in any store or cache: it takes from the start of the pull to the end of the workload.
func (b *bench) contain(ctx context.Context, at *server, shape link.Config, s side, w workload, c *costs) error {
	err := b.start(ctx, at, shape, s, func(r started) error {
		if at.requests != nil {
			at.requests() // those of the run before
		}
		began, took, err := r.run(ctx, s, w)
		if err != nil {
			return err
		}
		c.seconds, c.megabytes = append(c.seconds, took.Seconds()), append(c.megabytes, float64(r.link.Counters().Down)/1e6)
		if at.requests != nil {
			b.logRequests(at.requests(), began, c)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s, %s: %w", s.name, w.name, err)
	}
	b.progress("containers: %s, %s: %.2f s, %.1f MB, run %d", w.name, s.name, c.seconds[len(c.seconds)-1], c.megabytes[len(c.megabytes)-1], len(c.seconds))
	return nil
}

// logRequests counts requests, and prints them if that is wanted.
func (b *bench) logRequests(asked []lab.Request, began time.Time, c *costs) {
	c.requests = append(c.requests, float64(len(asked)))
	if !b.containers.log {
		return
	}
	for _, q := range asked {
		b.progress("%4d ms: %s", q.Began.Sub(began).Milliseconds(), q)
	}
}
