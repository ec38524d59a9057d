package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"
	"oras.land/oras-go/v2/errdef"

	"github.com/pagein/pagein/internal/atomicfile"
	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/profile"
	"github.com/pagein/pagein/trace"
)

const traceDescription = `CMD is run, and what it and the programs that it starts touch of images that pageind serves is written as a profile, in the order of the first touches. With --container
it is what a running container touches from now on, with --image alone what the next new container of that image touches. The recording ends when CMD ends, or with --until as soon as that is so:

   port:N         the workload listens at the TCP port N
   log:REGEX      a line that CMD prints matches
   exec:COMMAND   the shell command succeeds
   time:DURATION  so much time has passed

CMD is then ended by SIGTERM. Ctrl-C ends a recording too, and what there is is written. All times, that until the workload is ready too, count from the start of CMD, with --container from the
beginning of the recording, and with --image from the first touch by the new container.

For a sharp profile, record on a node where the image has not run since it was mounted: of what is
cached already, neighbours of touched pages are mapped with them, and are reported as such. Until the end the kernel reads nothing ahead of readers of the images that are mounted.

Where no probe works, what the kernel asks pageind for is written: by whomever, and nothing of what was cached. A profile of a mounted artifact that can be found gets its digests.`

func traceCommand() *cli.Command {
	return &cli.Command{
		Name:        "trace",
		Usage:       "record what a workload touches first, as a profile (eBPF; needs root)",
		ArgsUsage:   "-- CMD... | --container ID | --image REF",
		Description: traceDescription,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "o", Aliases: []string{"output"}, Value: "trace.profile", Usage: "write the profile to the file `PROFILE`, - for standard output"},
			&cli.StringFlag{Name: "until", Usage: "the workload is ready when `CONDITION` holds"},
			&cli.StringFlag{Name: "container", Usage: "record the running container `ID`"},
			&cli.StringFlag{Name: "image", Usage: "record the next container of the image `REF`, or, with CMD or --container, write what was touched of this one"},
			&cli.BoolFlag{Name: "read-ahead", Usage: "let the kernel read ahead meanwhile, which blurs what was touched through mappings"},
			&cli.StringFlag{Name: "probe", Usage: "see touches by `VARIANT` (tp_btf, raw_tp, fentry, kprobe, or misses: pageind's record) instead of the first that works"},
		},
		Action: func(c *cli.Context) error {
			t, err := newTracing(c)
			if err != nil {
				return err
			}
			return t.run(c.Context)
		},
	}
}

// tracing is one run of pagein trace.
type tracing struct {
	c         *cli.Context
	args      []string // CMD
	container string
	image     string
	until     trace.Condition
	mounts    *tracedMounts
}

func newTracing(c *cli.Context) (*tracing, error) {
	t := &tracing{c: c, args: c.Args().Slice(), container: c.String("container"), image: c.String("image")}
	switch {
	case len(t.args) > 0 && t.container != "":
		return nil, misuse(c, "want CMD or --container, not both")
	case len(t.args) == 0 && t.container == "" && t.image == "":
		return nil, misuse(c, "want CMD, --container or --image")
	}
	var err error
	if t.until, err = trace.ParseCondition(c.String("until")); err != nil {
		return nil, misuse(c, "%v", err)
	}
	if t.until.Log != nil && len(t.args) == 0 {
		return nil, misuse(c, "--until log: is for CMD: a container's log is not seen, try exec: with a command that looks at it")
	}
	return t, nil
}

// run records, and writes what there is.
func (t *tracing) run(ctx context.Context) error {
	client, err := daemon(t.c)
	if err != nil {
		return err
	}
	defer client.Close()
	t.mounts = &tracedMounts{client: client, images: make(map[uint64]control.Image), before: make(map[string][]byte), asked: make(map[uint64]time.Time), sharp: !t.c.Bool("read-ahead")}
	if err := t.mounts.look(ctx); err != nil {
		return errors.Join(err, t.mounts.restore())
	}
	if t.image != "" {
		err := t.mounts.resolve(t.c, t.image)
		if errors.Is(err, errdef.ErrNotFound) { // nothing of that name can be mounted: it would be waited for in vain
			return errors.Join(fmt.Errorf("record %s: there is no such image: pageind serves none of that name, and there is none where it says", t.image), t.mounts.restore())
		}
		if err != nil {
			t.say("note: only a mount of that very name will be taken for the image: %v", err)
		}
	}
	r, ended := t.record(ctx)
	ended = errors.Join(ended, t.mounts.restore())
	if r == nil {
		return ended
	}
	// Interrupted or not, what was recorded is written.
	return errors.Join(t.write(context.WithoutCancel(ctx), r), ended)
}

// write names what was touched and writes the profile.
func (t *tracing) write(ctx context.Context, r *traced) error {
	if err := t.mounts.look(ctx); err != nil {
		return err
	}
	name := t.touches
	if r.variant == missLog {
		name = func(ctx context.Context, r *traced) (*profile.Profile, control.Image, string, error) {
			return t.misses(ctx, r.began)
		}
	}
	p, image, words, err := name(ctx, r)
	if err != nil {
		return err
	}
	p.Ready = r.ready
	t.identify(ctx, image, p)
	if err := writeTrace(t.c, p); err != nil {
		return err
	}
	t.summarize(image, words, r)
	return nil
}

// touches makes a profile of what was touched of one image. The words say how much it is.
func (t *tracing) touches(ctx context.Context, r *traced) (*profile.Profile, control.Image, string, error) {
	device, image, err := t.choose(r.Recording)
	if err != nil {
		return nil, image, "", err
	}
	files, err := t.mounts.files(ctx, image, r.Inodes(device))
	if err != nil {
		return nil, image, "", err
	}
	p, sum := r.Profile(device, files)
	return p, image, sum.String(), nil
}

// choose picks the mount that the profile is about: the most touched one, of the image that was asked for.
func (t *tracing) choose(r *trace.Recording) (uint64, control.Image, error) {
	var wanted control.Image
	if t.image != "" {
		var err error
		if wanted, err = t.mounts.find(t.image); err != nil {
			return 0, wanted, err
		}
	}
	var chosen *trace.Device
	for _, d := range r.Devices() {
		image, ok := t.mounts.images[d.Device]
		switch {
		case !ok || t.image != "" && image.ID != wanted.ID:
		case chosen == nil:
			chosen = &d
		default:
			t.say("also touched: %d pages of %s (--image writes that instead)", d.Pages, image.Ref)
		}
	}
	if chosen == nil {
		return 0, wanted, errors.New("nothing was touched of an image that pageind serves; what a daemon such as containerd starts for CMD is recorded by --container or --image")
	}
	return chosen.Device, t.mounts.images[chosen.Device], nil
}

func (t *tracing) summarize(image control.Image, words string, r *traced) {
	t.say("%s: %s in %v, by %s", image.Ref, words, r.took.Round(time.Millisecond), r.variant)
	switch {
	case r.ready > 0:
		t.say("ready (%s) after %v", t.until, r.ready.Round(time.Millisecond))
	case t.until.String() != "":
		t.say("the recording ended before the workload was ready (%s)", t.until)
	}
	if r.stats.Lost() {
		t.say("incomplete: %d pages found no room, %d times a probe did not run, %d processes were not followed", r.stats.DroppedPages, r.stats.Skipped, r.stats.Unfollowed)
	}
}

// say tells the user something; standard output belongs to CMD.
func (t *tracing) say(format string, args ...any) {
	fmt.Fprintf(t.c.App.ErrWriter, "pagein trace: "+format+"\n", args...)
}

func writeTrace(c *cli.Context, p *profile.Profile) error {
	path := c.Path("o")
	if path == "-" {
		return p.Write(c.App.Writer)
	}
	f, err := atomicfile.Create(path, 0o644)
	if err != nil {
		return fmt.Errorf("write the profile: %w", err)
	}
	defer f.Discard()
	out := bufio.NewWriter(f)
	if err := errors.Join(p.Write(out), out.Flush()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Commit()
}
