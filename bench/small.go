package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/oci/layout"
)

const (
	imageAFiles = 20_000 // small files in image A
	smallPicked = 1_000  // of which so many are read
)

// mounter is what mounts an image so that it can be read before it is here.
type mounter interface {
	Mount(ctx context.Context, ref, target string) error
	Unmount(ctx context.Context, target string) error
	Programs() []string // that run when an image is mounted
	Stop() error
}

// lazyReader is one of those that are compared.
type lazyReader struct {
	name  string
	image *layout.Store
	desc  ocispec.Descriptor // the image in it
	start func(ctx context.Context, dir string) (mounter, error)

	seconds []float64
	fetched []float64 // bytes for each byte read
	size    int64     // bytes read
}

// benchStargz is workload W3: a thousand of image A's 20,000 small files, read one after the other by the same program in the same order over the same link from the
// same server, from the start of the pull or mount to the last byte, with pagein and with stargz-snapshotter under containerd. Nothing is known of the
// workload beforehand. Both run already, with empty stores; neither runs a container.
func benchStargz(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "stargz-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ours, theirs, err := b.contestants(ctx, dir)
	if err != nil {
		return nil, err
	}
	static, err := lab.StartStatic(map[string][]string{ours.name: {ours.image.Dir()}, theirs.name: {theirs.image.Dir()}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, static.Stop()) }()
	results, err = b.smallFiles(ctx, "a plain file server", static.Addr(), ours, theirs)
	if err != nil {
		return results, err
	}
	registry, address, err := startDistribution(ctx, dir)
	if err != nil {
		return results, err
	}
	defer func() { err = errors.Join(err, registry.Stop()) }()
	for _, r := range []*lazyReader{ours, theirs} {
		b.progress("stargz: pushing %s's image to distribution's registry", r.name)
		if err := push(ctx, r.image, r.desc, address+"/bench/"+r.name); err != nil {
			return results, err
		}
	}
	more, err := b.smallFiles(ctx, "distribution's registry", address, ours, theirs)
	return append(results, more...), err
}

// contestants have image A each in their own format.
func (b *bench) contestants(ctx context.Context, dir string) (ours, theirs *lazyReader, err error) {
	source, err := inputs.ImageA(ctx, b.progress)
	if err != nil {
		return nil, nil, err
	}
	estargz, err := inputs.ImageAStargz(ctx, b.progress)
	if err != nil {
		return nil, nil, err
	}
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, nil, err
	}
	b.progress("stargz: converting image A")
	lazy := filepath.Join(dir, "lazy")
	if _, err := lab.Output(lab.Command(ctx, pagein, "convert", "--quiet", "--level", b.containers.level, "--temp-dir", dir, "oci:"+source, "oci:"+lazy)); err != nil {
		return nil, nil, err
	}
	ours = &lazyReader{name: "pagein", start: func(ctx context.Context, dir string) (mounter, error) { return lab.StartNode(ctx, dir) }}
	theirs = &lazyReader{name: "stargz", start: func(ctx context.Context, dir string) (mounter, error) { return lab.StartStargz(ctx, dir) }}
	return ours, theirs, errors.Join(ours.open(lazy), theirs.open(estargz))
}

// open takes the image in a layout.
func (r *lazyReader) open(dir string) (err error) {
	if r.image, err = layout.Open(dir); err == nil {
		r.desc, err = r.image.Only()
	}
	return err
}

// smallFiles has both read from a server, in turns.
func (b *bench) smallFiles(ctx context.Context, server, address string, ours, theirs *lazyReader) ([]result, error) {
	all := []*lazyReader{ours, theirs}
	for _, r := range all {
		r.seconds, r.fetched = nil, nil
	}
	for i := range b.runs {
		for _, r := range all {
			if err := r.read(ctx, b, address); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", r.name, server, err)
			}
			b.progress("stargz: %s, run %d of %d: %s %.2f s, %.1f bytes for each byte", server, i+1, b.runs, r.name, r.seconds[i], r.fetched[i])
		}
	}
	detail := fmt.Sprintf("%.1f MB read, 200 Mbit/s, 10 ms, %s, median of %d", float64(ours.size)/1e6, server, b.runs)
	return []result{
		atMost("W3, 1,000 of 20,000 small files, "+server, median(ours.seconds)/median(theirs.seconds), 0.6, "",
			fmt.Sprintf("× stargz-snapshotter: %s s / %s s; %s", spread(ours.seconds), spread(theirs.seconds), detail)),
		atMost("W3, bytes fetched for each byte read, "+server, median(ours.fetched), math.Round(25*median(theirs.fetched))/10, "",
			fmt.Sprintf("stargz-snapshotter %.1f, target 2.5 × as many; %s", median(theirs.fetched), detail)),
	}, nil
}

// read is one run with nothing in any store or cache.
func (r *lazyReader) read(ctx context.Context, b *bench, server string) (err error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	mnt := filepath.Join(dir, "mnt", "image")
	home := filepath.Join(dir, "home")
	if err := errors.Join(os.MkdirAll(mnt, 0o755), os.Mkdir(home, 0o700)); err != nil {
		return err
	}
	shape := slowLink
	shape.Target = server
	l, err := link.Start(shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	m, err := r.start(ctx, home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Stop()) }()
	if err := errors.Join(lab.DropCaches(), lab.Warm(m.Programs()...)); err != nil {
		return err
	}
	began := time.Now()
	if err := m.Mount(ctx, l.Addr()+"/bench/"+r.name+"@"+r.desc.Digest.String(), mnt); err != nil {
		return err
	}
	r.size, err = catFiles(ctx, mnt, imageAFiles, smallPicked)
	took := time.Since(began)
	fetched := l.Counters().Down
	if err := errors.Join(err, m.Unmount(ctx, mnt)); err != nil {
		return err
	}
	r.seconds, r.fetched = append(r.seconds, took.Seconds()), append(r.fetched, float64(fetched)/float64(r.size))
	return nil
}

// startDistribution starts distribution's registry with its files below dir.
func startDistribution(ctx context.Context, dir string) (*lab.Service, string, error) {
	program, err := exec.LookPath("registry")
	if err != nil {
		return nil, "", fmt.Errorf("find distribution's registry: %w", err)
	}
	return lab.StartRegistry(context.WithoutCancel(ctx), program, dir)
}

// push copies an image from a layout to a registry's repository.
func push(ctx context.Context, src *layout.Store, desc ocispec.Descriptor, to string) error {
	repository, err := remote.NewRepository(to)
	if err != nil {
		return err
	}
	repository.PlainHTTP = true
	options := oras.DefaultCopyGraphOptions
	options.FindSuccessors = func(ctx context.Context, fetcher content.Fetcher, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		found, err := content.Successors(ctx, fetcher, desc)
		// The image that an artifact was made from stays where it is.
		return slices.DeleteFunc(found, func(d ocispec.Descriptor) bool { there, err := src.Exists(ctx, d); return err == nil && !there }), err
	}
	if err := oras.CopyGraph(ctx, src, repository, desc, options); err != nil {
		return fmt.Errorf("push to the registry: %w", err)
	}
	return nil
}
