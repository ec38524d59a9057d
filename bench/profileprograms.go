package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/profile"
)

// programsRepository is where the images that programs are started from can be had by digest.
const programsRepository = "bench/programs@"

// local serves what is being laid out, starts a daemon that has all data of the image as it was converted, and has both used.
func (b *bench) local(ctx context.Context, o *optimizing, use func(node *lab.Node, server string) error) (err error) {
	static, err := lab.StartStatic(map[string][]string{"programs": {o.layout}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, static.Stop()) }()
	home := filepath.Join(o.dir, "node")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	node, err := lab.StartNode(ctx, home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Stop()) }()
	if err := b.whole(ctx, node, static.Addr()+"/"+programsRepository+o.plain); err != nil {
		return err
	}
	return use(node, static.Addr())
}

// whole brings all data of an image to a node.
func (b *bench) whole(ctx context.Context, node *lab.Node, ref string) error {
	mnt, err := os.MkdirTemp(b.dir, "mnt-")
	if err != nil {
		return err
	}
	defer os.Remove(mnt)
	if err := node.MountWhole(ctx, ref, mnt); err != nil {
		return err
	}
	return node.Unmount(ctx, mnt)
}

// optimizedPrograms is benchProfile of programs. The node has all data.
func (b *bench) optimizedPrograms(ctx context.Context, o *optimizing, node *lab.Node, server string) ([]result, error) {
	all := programs()
	starts := make([]programStarts, len(all))
	for i, p := range all {
		b.progress("profile: recording %s", p.name)
		image, err := o.optimize(ctx, p.name, func(file string) error {
			return b.mounted(ctx, node, server+"/"+programsRepository+o.plain, func(mnt string, _ time.Time) error {
				return rooted(mnt, func() error { return node.Trace(ctx, file, p.command(mnt)...) })
			})
		})
		if err == nil {
			err = b.whole(ctx, node, server+"/"+programsRepository+image.Descriptor.Digest.String())
		}
		if err != nil {
			return nil, err
		}
		starts[i] = programStarts{program: p, image: image}
	}
	for range b.runs {
		for i := range starts {
			if err := b.startProgram(ctx, &starts[i], node, server, o.plain); err != nil {
				return nil, fmt.Errorf("%s: %w", starts[i].name, err)
			}
		}
	}
	var results []result
	for i := range starts {
		results = append(results, starts[i].rows()...)
	}
	return results, nil
}

// programStarts is what starting a program took in several runs.
type programStarts struct {
	program
	image *laidOut

	plain, optimized, local []float64 // seconds
	fetched                 []float64 // megabytes, of the image that is laid out
	waits, joined           []float64
}

// startProgram starts a program from the image as it was converted, from the one laid out for it, and from the latter on the node that has all data.
func (b *bench) startProgram(ctx context.Context, s *programStarts, node *lab.Node, server, plain string) error {
	lazy, err := b.cold(ctx, server, programsRepository+plain, s.program)
	if err != nil {
		return err
	}
	hot := programsRepository + s.image.Descriptor.Digest.String()
	best, err := b.cold(ctx, server, hot, s.program)
	if err != nil {
		return err
	}
	local, err := b.timed(ctx, node, server+"/"+hot, s.program, func(string) error { return nil })
	if err != nil {
		return err
	}
	s.plain, s.optimized, s.local = append(s.plain, lazy.seconds), append(s.optimized, best.seconds), append(s.local, local)
	s.fetched = append(s.fetched, best.megabytes)
	s.waits, s.joined = append(s.waits, float64(best.waits)), append(s.joined, float64(best.joined))
	b.progress("profile: %s: lazy %.2f s, %.1f MB, %d waits; optimized %.2f s, %.1f MB, %d waits; local %.2f s", s.name,
		lazy.seconds, lazy.megabytes, lazy.waits, best.seconds, best.megabytes, best.waits, local)
	return nil
}

// rows are the results.
func (s *programStarts) rows() []result {
	took, sent := median(s.optimized), s.image.compressed()
	wire := sent * 8 / float64(slowLink.Rate)
	pages := s.image.touched / profile.PageSize
	name := s.name + " optimized"
	return []result{
		atMost(name+", time to ready", took/(median(s.local)+wire), 1.25, "", fmt.Sprintf("× all data local and what is touched, %.1f MB compressed, at the link's rate: %s s / (%s s + %.2f s), median of %d",
			sent/1e6, spread(s.optimized), spread(s.local), wire, len(s.local))),
		atMost(name+", time to ready", took/median(s.plain), 0.5, "", fmt.Sprintf("× as converted: %s s / %s s", spread(s.optimized), spread(s.plain))),
		atMost(name+", bytes fetched before ready", median(s.fetched)*1e6/sent, 1.3, "", fmt.Sprintf("× touched: %.2f MB of all kinds / %.2f MB of data, compressed (%.1f MB plain); profile of %d recordings",
			median(s.fetched), sent/1e6, s.image.touched/1e6, s.image.runs)),
		atMost(name+", reads that wait for the network", 100*median(s.waits)/pages, 2, "%", fmt.Sprintf("of touched pages: %.0f of %.0f, %.0f of them for what was on its way",
			median(s.waits), pages, median(s.joined))),
	}
}
