package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// places is how many directories images are mounted on.
const places = 6

// soak is everything that takes part.
type soak struct {
	options
	place   *place
	daemon  *daemon
	server  *server
	images  []image
	judge   *judge
	rnd     *rand.Rand // the schedule
	readers []*reading

	slots []*slot
	tasks sync.WaitGroup // commands that run in the background
	mu    sync.Mutex     // guards the slots' states and what readers were killed

	count            map[string]int // of what was done
	healing, filling int            // after so many actions the registry, the disk is well again; 0 = it is
	cure, free       func()
	base, baseKeeper usage // of an idle daemon and its keeper
	most             usage // of the daemon at any time
	rest             usage // of the daemon after the last round
}

// slot is a directory that images are mounted on.
type slot struct {
	target string
	image  int
	wait   bool
	state  state
}

type state int

const (
	empty state = iota
	busy        // a command is at it
	mounted
)

// actions are what a schedule is made of, with how often each comes. Each takes three numbers that decide everything else about it.
var actions = []struct {
	name   string
	weight int
	do     func(s *soak, ctx context.Context, a, b, c int) error
}{
	{"mount", 22, (*soak).mount},
	{"unmount", 8, (*soak).unmount},
	{"unmount lazily", 2, (*soak).unmountLazily},
	{"read", 28, (*soak).beginReading},
	{"end a reader", 6, (*soak).endReader},
	{"kill a reader", 5, (*soak).killReader},
	{"kill pageind", 7, (*soak).killDaemon},
	{"restart pageind", 2, (*soak).restartDaemon},
	{"kill the keeper", 1, (*soak).killKeeper},
	{"spoil the registry", 9, (*soak).spoil},
	{"fill the disk", 3, (*soak).fill},
	{"drop caches", 5, (*soak).dropCaches},
	{"collect garbage", 4, (*soak).collect},
}

// settings leave room for some of the images only. Every second seed has ranges of mounted ones evicted too.
const settings = `read-deadline = "2s"
cache-high = "48MB"
cache-low = "32MB"
cache-reserve = "16MiB"
evict-mounted-ranges = %v
`

func newSoak(ctx context.Context, o options, p *place) (*soak, error) {
	s := &soak{options: o, place: p, judge: new(judge), count: make(map[string]int), rnd: rand.New(rand.NewPCG(o.seed, 0))} // #nosec G404 -- a schedule
	var err error
	config := p.path("config.toml")
	if err = os.WriteFile(config, fmt.Appendf(nil, settings, o.seed%2 == 1), 0o600); err != nil {
		return nil, err
	}
	if s.daemon, err = newDaemon(p, "--config", config, "--transport", o.transport); err != nil {
		return nil, err
	}
	for i := range places {
		target := filepath.Join(p.path("mnt"), fmt.Sprint(i))
		if err := os.MkdirAll(target, 0o755); err != nil {
			return nil, err
		}
		s.slots = append(s.slots, &slot{target: target})
	}
	s.server = newServer()
	if s.images, err = makeImages(ctx, s.daemon, s.server.host(), s.rnd); err != nil {
		return s, err
	}
	if err := s.daemon.start(ctx); err != nil {
		return s, err
	}
	if s.base, err = usageOf(s.daemon.process.Pid); err != nil {
		return s, err
	}
	s.baseKeeper, err = usageOf(s.daemon.keeper())
	return s, err
}

// rounds soaks until the time is over, ctx ends, or something is wrong.
func (s *soak) rounds(ctx context.Context) error {
	for end := time.Now().Add(s.length); time.Now().Before(end) && ctx.Err() == nil; {
		last := time.Now().Add(min(s.round, time.Until(end)))
		for time.Now().Before(last) && ctx.Err() == nil {
			if err := s.step(ctx); err != nil {
				return err
			}
		}
		if err := s.putRight(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		s.count["rounds"]++
		s.judge.forget()
	}
	return s.judge.verdict()
}

// step does the next thing.
func (s *soak) step(ctx context.Context) error {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	// All is drawn at once, whatever becomes of it.
	pick, a, b, c, pause := s.rnd.IntN(total), s.rnd.IntN(1<<20), s.rnd.IntN(1<<20), s.rnd.IntN(1<<20), s.rnd.Int64N(int64(s.pause)+1)
	for _, action := range actions {
		if pick -= action.weight; pick >= 0 {
			continue
		}
		if slices.Contains(strings.Split(s.without, ","), action.name) {
			break
		}
		if s.verbose {
			fmt.Printf("%s %s %d %d %d\n", time.Now().Format(time.TimeOnly+".000"), action.name, a, b, c)
		}
		if err := action.do(s, ctx, a, b, c); err != nil {
			return fmt.Errorf("%s: %w", action.name, err)
		}
		break
	}
	s.elapse()
	time.Sleep(time.Duration(pause))
	if err := s.daemon.alive(); err != nil {
		return err
	}
	if u, err := usageOf(s.daemon.process.Pid); err == nil {
		s.most = usage{max(s.most.descriptors, u.descriptors), max(s.most.marks, u.marks), max(s.most.resident, u.resident)}
	}
	return s.judge.verdict()
}

// elapse ends what lasts for some actions.
func (s *soak) elapse() {
	if s.healing--; s.healing == 0 {
		s.cure()
	}
	if s.filling--; s.filling == 0 {
		s.free()
	}
}

// end stops what runs besides the daemon.
func (s *soak) end() error {
	for _, r := range s.readers {
		s.kill(r)
		s.await(r)
	}
	s.tasks.Wait()
	s.server.Close()
	return nil
}

// killDaemon kills pageind and starts another after up to half a second.
func (s *soak) killDaemon(ctx context.Context, a, _, _ int) error {
	return s.replaceDaemon(ctx, unix.SIGKILL, time.Duration(a%500)*time.Millisecond)
}

// restartDaemon is what a service manager does.
func (s *soak) restartDaemon(ctx context.Context, _, _, _ int) error {
	return s.replaceDaemon(ctx, unix.SIGTERM, 0)
}

func (s *soak) replaceDaemon(ctx context.Context, sig unix.Signal, pause time.Duration) error {
	defer s.judge.begin(trouble{what: "no daemon"})()
	s.count[fmt.Sprintf("pageind ended by %v", sig)]++
	if err := s.daemon.stop(sig); err != nil {
		return err
	}
	time.Sleep(pause)
	return s.daemon.start(context.WithoutCancel(ctx))
}

// keeperIsBack is what the daemon says when a new keeper has all that the old one had.
const keeperIsBack = "there is a keeper again"

// killKeeper kills the keeper and waits until the daemon has another: without both, mounts cannot be kept.
func (s *soak) killKeeper(_ context.Context, _, _, _ int) error {
	old := s.daemon.keeper()
	if old == 0 {
		return errors.New("there is no keeper")
	}
	defer s.judge.begin(trouble{what: "no keeper"})()
	s.count["keepers killed"]++
	replaced := s.daemon.logged(keeperIsBack)
	if err := unix.Kill(old, unix.SIGKILL); err != nil {
		return err
	}
	if !eventually(time.Minute, func() bool { return s.daemon.logged(keeperIsBack) > replaced }) {
		return errors.New("there is no new keeper")
	}
	return nil
}

// spoil has the registry do badly for some actions.
func (s *soak) spoil(_ context.Context, a, b, _ int) error {
	if s.healing > 0 {
		return nil
	}
	f := faults[a%len(faults)]
	s.healing = 2 + b%12
	ended := s.judge.begin(trouble{what: string(f), reads: true, final: f.final()})
	s.server.set(f)
	s.count["registry: "+string(f)]++
	s.cure = func() { s.server.set(healthy); ended() }
	return nil
}

// fill takes all space on the store's disk for some actions.
func (s *soak) fill(_ context.Context, a, _, _ int) error {
	if s.filling > 0 {
		return nil
	}
	s.filling = 2 + a%8
	ended := s.judge.begin(trouble{what: "full disk", reads: true, final: true})
	s.count["disk filled"]++
	path := filepath.Join(s.place.root(), "filler")
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	end := int64(0)
	for step := int64(diskSize); step >= 4096; {
		if err := unix.Fallocate(int(f.Fd()), 0, end, step); err == nil {
			end += step
		} else if errors.Is(err, unix.ENOSPC) {
			step /= 2
		} else {
			return err
		}
	}
	s.free = func() {
		if err := os.Remove(path); err != nil {
			s.judge.fail("%v", err)
		}
		ended()
	}
	return nil
}

// dropCaches has the kernel forget all that it need not remember.
func (s *soak) dropCaches(_ context.Context, _, _, _ int) error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}
