package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/bench/link"
	"github.com/pagein/pagein/blob"
)

// containerOptions say how much of the comparison in containers is measured. All of it takes a quarter of an hour.
type containerOptions struct {
	links, servers, workloads list
	pulls                     int    // how often overlayfs pulls the whole image for each link and server
	level                     string // that pagein's image is compressed at, here and in other comparisons with stargz-snapshotter
	log                       bool   // every request of every run
}

// list is a flag's value: names separated by commas.
type list struct {
	names, known []string
}

// String implements flag.Value.
func (l *list) String() string { return strings.Join(l.names, ",") }

// Set implements flag.Value.
func (l *list) Set(s string) error {
	l.names = strings.Split(s, ",")
	for _, name := range l.names {
		if !slices.Contains(l.known, name) {
			return fmt.Errorf("%q is unknown: choose from %s", name, strings.Join(l.known, ", "))
		}
	}
	return nil
}

// shapes are the links by name.
var shapes = map[string]link.Config{"P1": {Rate: 1e9, RTT: time.Millisecond}, "P2": slowLink}

// flags declares the options of the group with their defaults, which take some minutes.
func (o *containerOptions) flags(f *flag.FlagSet) {
	*o = containerOptions{
		links: list{[]string{"P2"}, []string{"P1", "P2"}}, servers: list{[]string{plainServer}, []string{plainServer, distribution}},
	}
	for _, w := range workloads() {
		o.workloads.known = append(o.workloads.known, w.short())
	}
	o.workloads.names = o.workloads.known
	f.Var(&o.links, "links", "containers: `links`, P1 (1 Gbit/s, 1 ms) and P2 (200 Mbit/s, 10 ms)")
	f.Var(&o.servers, "servers", "containers: `registries`, static and distribution")
	f.Var(&o.workloads, "workloads", "containers: `workloads`")
	f.StringVar(&o.level, "level", blob.LevelDefault.String(), "containers, stargz, around: compress pagein's image at `level` fast, default or best")
	f.IntVar(&o.pulls, "pulls", 1, "containers: `how often` overlayfs pulls the whole image, which takes 40 s at P2; 0 for not at all")
	f.BoolVar(&o.log, "requests", false, "containers: print every request to the plain file server")
}

// benchContainers runs W0 to W5 of image A in containers, from the start of the pull to the end of the workload, with nothing in any store or cache: with pagein's snapshotter,
// with stargz-snapshotter, and W0 with overlayfs, which pulls all of the image whatever the workload.
func benchContainers(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "containers-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	all, err := b.imagesOfA(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, name := range b.containers.servers.names {
		at, err := b.serve(ctx, dir, name, all)
		if err != nil {
			return results, err
		}
		for _, name := range b.containers.links.names {
			got, err := b.containersOver(ctx, at, name, all)
			results = append(results, got...)
			if err != nil {
				return results, errors.Join(err, at.stop())
			}
		}
		if err := at.stop(); err != nil {
			return results, err
		}
	}
	return results, nil
}

// containersOver is benchContainers with one server over one link. The sides take turns.
func (b *bench) containersOver(ctx context.Context, at *server, name string, all *images) (results []result, err error) {
	chosen := slices.DeleteFunc(workloads(), func(w workload) bool { return !slices.Contains(b.containers.workloads.names, w.short()) })
	var pulled costs
	for range b.containers.pulls {
		if err := b.contain(ctx, at, shapes[name], all.sides[full], workloads()[0], &pulled); err != nil {
			return nil, err
		}
	}
	for _, w := range chosen {
		var lazy, peer costs
		for range min(b.runs, 3) {
			err := b.contain(ctx, at, shapes[name], all.sides[ours], w, &lazy)
			if err == nil {
				err = b.contain(ctx, at, shapes[name], all.sides[stargz], w, &peer)
			}
			if err != nil {
				return results, err
			}
		}
		results = append(results, w.compare(name, at.name, &lazy, &peer, &pulled)...)
	}
	return results, nil
}

// compare makes the rows of a workload.
func (w workload) compare(link, server string, lazy, peer, pulled *costs) []result {
	title := fmt.Sprintf("%s, %s, %s", w.name, link, server)
	took := median(lazy.seconds)
	detail := func(other fmt.Stringer) string {
		return fmt.Sprintf("%v / %v; median of %d", lazy, other, len(lazy.seconds))
	}
	rows := []result{atMost(title, took/median(peer.seconds), w.stargz, "", "× stargz-snapshotter: "+detail(peer))}
	if w.bytes > 0 {
		rate := float64(shapes[link].Rate)
		rows = append(rows, atLeast(title, float64(w.bytes)*8/took/rate, 0.9, "", fmt.Sprintf("of the link: %v for %d MB", lazy, w.bytes/1e6)))
	}
	if len(pulled.seconds) == 0 {
		return rows
	}
	row := result{Name: title, Value: took / median(pulled.seconds), Detail: "× overlayfs with a full pull and W0: " + detail(pulled)}
	if link == "P2" && w.pull > 0 {
		row = atMost(title, row.Value, w.pull, "", row.Detail)
	}
	return append(rows, row)
}
