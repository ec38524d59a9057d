package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
)

// The image's names in the registry.
const (
	repository = "demo/go"
	original   = repository + ":original"
	lazy       = repository + ":lazy"
)

// stage is what both ways of starting are played on: a directory, a registry with the image, the link to it.
type stage struct {
	dir      string
	programs programs
	registry string // address without the link
	service  *lab.Service
	link     *link.Link
	progress func(format string, args ...any)
	undo     []func() error // in reverse order
}

// newStage starts the registry and the link. close must be called.
func newStage(ctx context.Context, o options) (_ *stage, err error) {
	s := &stage{progress: func(format string, args ...any) { fmt.Fprintf(os.Stderr, "demo: "+format+"\n", args...) }}
	if s.programs, err = findPrograms(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pagein-demo-"); err != nil {
		return nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	s.undo = append(s.undo, func() error { return os.RemoveAll(s.dir) }, func() error { return lab.UnmountBelow(s.dir) })
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	store := s.dir
	if o.published != "" {
		store = o.published
	}
	// Services end when the stage is closed, not at once with ctx: what uses them goes first.
	if s.service, s.registry, err = lab.StartRegistry(context.WithoutCancel(ctx), s.programs.registry, store); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, s.service.Stop)
	if s.link, err = link.Start(link.Config{Target: s.registry, Rate: int64(o.rate * 1e6), RTT: o.rtt}); err != nil {
		return nil, err
	}
	s.undo = append(s.undo, s.link.Close)
	return s, nil
}

// close undoes everything, last things first.
func (s *stage) close() error {
	var errs []error
	for len(s.undo) > 0 {
		last := len(s.undo) - 1
		errs = append(errs, s.undo[last]())
		s.undo = s.undo[:last]
	}
	return errors.Join(errs...)
}

// publish builds the image and pushes it to the registry.
func (s *stage) publish(ctx context.Context) (imageReport, error) {
	goroot, err := lab.Output(lab.Command(ctx, "go", "env", "GOROOT"))
	if err != nil {
		return imageReport{}, err
	}
	root := strings.TrimSpace(string(goroot))
	s.progress("building an image of two layers from %s (%s)", root, runtime.Version())
	image, err := buildImage(ctx, root, filepath.Join(s.dir, "image"))
	if err != nil {
		return imageReport{}, err
	}
	s.progress("pushing it to the registry")
	if _, err := lab.Output(lab.Command(ctx, s.programs.crane, "push", image.layout, s.registry+"/"+original)); err != nil {
		return imageReport{}, err
	}
	return imageReport{Layers: 2, CompressedBytes: image.compressed, UnpackedBytes: image.unpacked}, os.RemoveAll(image.layout)
}

// convert makes the lazy image beside the original one, on the registry's side of the link, where this is done once for all nodes.
func (s *stage) convert(ctx context.Context) (convertReport, error) {
	s.progress("converting it, once for all nodes")
	began := time.Now()
	_, err := lab.Output(lab.Command(ctx, s.programs.pagein, "convert", s.registry+"/"+original, s.registry+"/"+lazy))
	return convertReport{Seconds: time.Since(began).Seconds()}, err
}

// fullPull pulls and unpacks the whole image through the link, and uses it. crane unpacks what it downloads while it downloads, and so is
// faster than tools that store the layers first.
func (s *stage) fullPull(ctx context.Context) (timing, error) {
	dir, err := os.MkdirTemp(s.dir, "full-")
	if err != nil {
		return timing{}, fmt.Errorf("make a directory to unpack in: %w", err)
	}
	defer os.RemoveAll(dir)
	return s.timed(ctx, dir, []string{s.programs.crane, s.programs.tar}, func() error {
		pull := lab.Command(ctx, s.programs.crane, "export", s.link.Addr()+"/"+original, "-")
		unpack := lab.Command(ctx, s.programs.tar, "-x", "-C", dir)
		return lab.Pipeline(pull, unpack)
	})
}
