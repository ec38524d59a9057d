package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/oci/layout"
)

// workload is what a container does.
type workload struct {
	name, prints string // prints: what it must print, "" for whatever it likes
	args         []string
}

// workloads are W0 to W5: nothing, an interpreter, a compiler (the image has no libc to link with), many small files, a big one, names only.
func workloads() []workload {
	small := []string{"/bin/sh", "-c", `cat "$@" >/dev/null`, "cat"}
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(imageAFiles)[:smallPicked] {
		small = append(small, fmt.Sprintf("/small/%04d/file-%06d", i/100, i))
	}
	return []workload{
		{"W0 true", "", []string{"/bin/true"}},
		{"W1 python3", "hello", []string{"/usr/bin/python3", "-c", "print('hello')"}},
		{"W2 gcc", "hello", []string{"/bin/sh", "-c", `cd /tmp && echo 'int puts(const char *); int main(void) { return puts("hello"); }' >h.c && gcc -O2 -c h.c && strings h.o | grep hello`}},
		{"W3 1,000 files", "", small},
		{"W4 500 MB", "", []string{"/bin/sh", "-c", "cat /random/0000/file-000000 >/dev/null"}},
		{"W5 ls -lR", "", []string{"/bin/ls", "-lR", "/usr"}},
	}
}

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

// benchContainers runs W0 to W5 of image A in containers, from the start of the pull to the end of the workload, with nothing in any store or cache: with pagein's snapshotter,
// with stargz-snapshotter, and W0 with overlayfs, which pulls all of the image whatever the workload.
func benchContainers(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "containers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	static, sides, err := b.sides(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, static.Stop()) }()
	all := workloads()
	full, err := b.runs3(ctx, static.Addr(), sides["overlayfs"], all[0])
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		ours, err := b.runs3(ctx, static.Addr(), sides["pagein"], w)
		if err != nil {
			return results, err
		}
		theirs, err := b.runs3(ctx, static.Addr(), sides["stargz"], w)
		if err != nil {
			return results, err
		}
		results = append(results, result{
			Name: w.name + " in a container", Value: median(ours.seconds) / median(theirs.seconds),
			Detail: fmt.Sprintf("× stargz-snapshotter: %s s, %.1f MB / %s s, %.1f MB; overlayfs %s s, %.1f MB; 200 Mbit/s, 10 ms, a plain file server, median of %d", spread(ours.seconds),
				median(ours.megabytes), spread(theirs.seconds), median(theirs.megabytes), spread(full.seconds), median(full.megabytes), len(ours.seconds)),
		})
	}
	return results, nil
}

// sides serves image A in all formats and says who pulls which.
func (b *bench) sides(ctx context.Context, dir string) (*lab.Static, map[string]side, error) {
	source, err := inputs.ImageA(ctx, b.progress)
	if err != nil {
		return nil, nil, err
	}
	plain, err := layout.Open(source)
	if err != nil {
		return nil, nil, err
	}
	image, err := plain.Only()
	if err != nil {
		return nil, nil, err
	}
	lazy, stargz, err := b.contestants(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	sides := map[string]side{
		"overlayfs": {"overlayfs", "bench/image@" + image.Digest.String(), func(ctx context.Context, dir string) (runner, error) {
			return lab.StartContainerd(ctx, dir, lab.Overlayfs, "")
		}},
		"pagein": {"pagein", "bench/image@" + image.Digest.String(), func(ctx context.Context, dir string) (runner, error) { return lab.StartServedNode(ctx, dir) }},
		"stargz": {"stargz", "bench/stargz@" + stargz.desc.Digest.String(), func(ctx context.Context, dir string) (runner, error) { return lab.StartStargz(ctx, dir) }},
	}
	// The artifact lies beside the image that it was made from, which is what is pulled.
	static, err := lab.StartStatic(map[string][]string{"image": {source, lazy.image.Dir()}, "stargz": {stargz.image.Dir()}})
	return static, sides, err
}

// costs are what runs took.
type costs struct{ seconds, megabytes []float64 }

// runs3 runs a workload up to three times.
func (b *bench) runs3(ctx context.Context, server string, s side, w workload) (c costs, err error) {
	for i := range min(b.runs, 3) {
		took, fetched, err := b.contain(ctx, server, s, w)
		if err != nil {
			return c, fmt.Errorf("%s, %s: %w", s.name, w.name, err)
		}
		c.seconds, c.megabytes = append(c.seconds, took.Seconds()), append(c.megabytes, float64(fetched)/1e6)
		b.progress("containers: %s, %s: %.2f s, %.1f MB, run %d", w.name, s.name, took.Seconds(), float64(fetched)/1e6, i+1)
	}
	return c, nil
}

// contain is one run with nothing in any store or cache. It returns the time and the bytes fetched.
func (b *bench) contain(ctx context.Context, server string, s side, w workload) (took time.Duration, fetched int64, err error) {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	shape := slowLink
	shape.Target = server
	l, err := link.Start(shape)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	r, err := s.start(ctx, dir)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Stop()) }()
	if err := errors.Join(lab.DropCaches(), lab.Warm(r.Programs()...)); err != nil {
		return 0, 0, err
	}
	began := time.Now()
	out, err := r.Run(ctx, l.Addr()+"/"+s.ref, w.args...)
	took, fetched = time.Since(began), l.Counters().Down
	if err == nil && w.prints != "" && string(bytes.TrimSpace(out)) != w.prints {
		err = fmt.Errorf("printed %q, want %q", out, w.prints)
	}
	return took, fetched, err
}
