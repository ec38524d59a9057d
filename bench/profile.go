package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/oci/layout"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/profile"
)

// A profile is merged from at least leastRuns recordings, and from more, up to mostRuns, until one more is likely to touch hardly anything anew.
const leastRuns, mostRuns = 3, 12

// mostBlurred is how many recordings are made again because the kernel could not be kept from reading ahead.
const mostBlurred = 3

// benchProfile compares images that are laid out for a program, as pagein trace has seen it start, with the same images as they were converted, and with the best there could be: all
// data on this machine, and only what is touched sent at the link's rate.
func benchProfile(ctx context.Context, b *bench) (results []result, err error) {
	dir, err := os.MkdirTemp(b.dir, "profile-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lab.UnmountBelow(dir), os.RemoveAll(dir)) }()
	o, err := b.optimizing(dir)
	if err != nil {
		return nil, err
	}
	source, err := inputs.Programs(ctx, b.progress)
	if err != nil {
		return nil, err
	}
	if err := o.convert(ctx, source); err != nil {
		return nil, err
	}
	if err := b.local(ctx, o, func(node *lab.Node, server string) error {
		results, err = b.optimizedPrograms(ctx, o, node, server)
		return err
	}); err != nil {
		return results, err
	}
	small, err := b.optimizedSmall(ctx, dir)
	return append(results, small...), err
}

// optimizing lays an image out.
type optimizing struct {
	pagein, dir string
	layout      string // with the image as it was converted, and all that are made of it
	plain       string // digest of the former
	progress    func(format string, args ...any)
}

// optimizing prepares to lay an image out below dir.
func (b *bench) optimizing(dir string) (*optimizing, error) {
	pagein, err := lab.Ours("pagein")
	if err != nil {
		return nil, err
	}
	return &optimizing{pagein: pagein, dir: dir, layout: filepath.Join(dir, "layout"), progress: b.progress}, nil
}

// convert converts the image in an OCI layout.
func (o *optimizing) convert(ctx context.Context, source string) error {
	if _, err := lab.Output(lab.Command(ctx, o.pagein, "convert", "--quiet", "--temp-dir", o.dir, "oci:"+source, "oci:"+o.layout)); err != nil {
		return err
	}
	s, err := layout.Open(o.layout)
	if err != nil {
		return err
	}
	desc, err := s.Only()
	o.plain = desc.Digest.String()
	return err
}

// laidOut is an image that was laid out for a workload.
type laidOut struct {
	optimize.Result
	runs    int     // recordings of the profile
	touched float64 // bytes of the pages that the workload touches, without those that the kernel may have mapped as neighbours; median of the recordings
}

// compressed is how many bytes the touched pages take in the object that holds them.
func (l *laidOut) compressed() float64 {
	return l.touched * float64(l.Compressed) / float64(l.Hot)
}

// optimize lays the image out for a workload, which is recorded a few times into the file that it is told.
func (o *optimizing) optimize(ctx context.Context, name string, record func(file string) error) (*laidOut, error) {
	merged := filepath.Join(o.dir, name+".profile")
	touched, err := o.record(ctx, name, merged, record)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	out, err := lab.Output(lab.Command(ctx, o.pagein, "optimize", "--json", "--temp-dir", o.dir, "--profile", merged, "oci:"+o.layout+"@"+o.plain, "oci:"+o.layout+":"+name))
	if err != nil {
		return nil, err
	}
	l := &laidOut{touched: median(touched), runs: len(touched)}
	if err := json.Unmarshal(out, &l.Result); err != nil {
		return nil, fmt.Errorf("read what pagein optimize --json printed: %w", err)
	}
	if l.Hot == 0 {
		return nil, fmt.Errorf("of what %s touches nothing was found in the image", name)
	}
	return l, nil
}

// record merges recordings into a file until there are enough, and returns how many bytes each of them touched.
func (o *optimizing) record(ctx context.Context, name, merged string, record func(file string) error) (touched []float64, err error) {
	files := []string{"profile", "merge", "-o", merged}
	blurred := 0
	for enough := false; !enough; {
		file := filepath.Join(o.dir, fmt.Sprintf("%s-%d.profile", name, len(touched)))
		if err := record(file); err != nil {
			return nil, err
		}
		p, err := readProfile(file)
		if err != nil {
			return nil, err
		}
		n, around := touchedBytes(p)
		if around > n/20 {
			o.progress("profile: the kernel mapped %.1f MB as neighbours of %.1f MB that %s touched: its read-ahead was not switched off", float64(around)/1e6, float64(n)/1e6, name)
			if blurred++; blurred <= mostBlurred {
				continue
			}
		}
		files, touched = append(files, file), append(touched, float64(n))
		if len(touched) < leastRuns {
			continue
		}
		if _, err := lab.Output(lab.Command(ctx, o.pagein, files...)); err != nil {
			return nil, err
		}
		if p, err = readProfile(merged); err != nil {
			return nil, err
		}
		unseen := float64(p.Unseen()) / float64(profile.Bytes(p.Disjoint()))
		o.progress("profile: %s: one more recording than %d would touch about %.2f %% anew", name, len(touched), 100*unseen)
		enough = p.Enough() || len(touched) == mostRuns
	}
	return touched, nil
}

func readProfile(file string) (*profile.Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := profile.Read(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return p, nil
}

// touchedBytes adds up the pages that a profile is sure of, and those that the kernel mapped around them.
func touchedBytes(p *profile.Profile) (touched, around int64) {
	for _, e := range p.Entries {
		switch e.Kind {
		case profile.KindRead, profile.KindFault:
			touched += e.Len
		case profile.KindAround:
			around += e.Len
		}
	}
	return touched, around
}
