package ondemand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/timeline"
)

// job fetches a run of neighbouring frames: one backend request, or more when it fails. What readers wait for comes first; what follows it in the run is
// given up, or held back, as soon as it is in anybody's way.
type job struct {
	b      *Blob
	bound  *binding // of concern to run alone once the job was launched
	source *source
	class  class // why the frames are fetched that nobody waits for
	steady bool  // it does not give way to readers

	// Guarded by b.mu.
	frames  []int                   // still to come, the first of them on its way
	started bool                    // it asks, or has asked, the backend
	last    int                     // the last frame that somebody waits or waited for, -1 if none
	urgent  bool                    // somebody waits
	gated   bool                    // idle fetches are held back for it
	queued  *time.Timer             // ends that if the job has not begun by then; nil if that was not needed
	slow    bool                    // its source lets it wait for long
	called  chan struct{}           // closed while urgent
	since   time.Time               // when somebody last began to wait
	moved   time.Time               // when the request under way was made, or last brought a frame
	giveUp  context.CancelCauseFunc // ends the request under way; nil if there is none
	tickets []*ticket               // for the host's slots and the engine's
	err     error                   // of the last attempt
}

// errDropped is what became of frames that nobody waits for and that were in the way.
var errDropped = errors.New("given up in favour of other reads")

// launch starts jobs for sorted frames, of which all up to wanted are waited for. The caller holds b.binding and b.mu.
func (b *Blob) launch(frames []int, wanted int, rest class) {
	most := b.engine.opts.RequestBytes
	if rest.idle() {
		most = min(most, idleRequest)
	}
	b.launchIn(frames, wanted, rest, manner{most: most})
}

// launchIn is launch in a certain manner.
func (b *Blob) launchIn(frames []int, wanted int, rest class, how manner) {
	for _, run := range b.runs(frames, how.most) {
		j := b.job(run, rest)
		j.steady = how.steady
		for _, i := range run {
			b.inflight[i] = &fetching{job: j, done: make(chan struct{})}
		}
		if run[0] <= wanted {
			j.want(min(wanted, run[len(run)-1]))
		}
		j.enqueue()
		b.work.Go(j.run)
	}
}

// idleRequest is the most source bytes of a request that is made in idle time. What is under way delays demand, if only a little.
const idleRequest = 1 << 20

func (b *Blob) job(run []int, c class) *job {
	return &job{b: b, bound: b.bound, source: b.sources[b.m.Frame(run[0]).Source], class: c, frames: run, last: -1, called: make(chan struct{})}
}

// want says that a reader waits for frame i of the job. The caller holds b.mu.
func (j *job) want(i int) {
	j.last = max(j.last, i)
	j.since = time.Now()
	if j.urgent {
		return
	}
	j.urgent = true
	close(j.called)
	j.hold()
	for k, t := range j.tickets {
		j.queues()[k].promote(t)
	}
}

// calm says that nobody waits any more. The caller holds b.mu.
func (j *job) calm() {
	j.urgent = false
	j.called = make(chan struct{})
	j.unhold()
}

// hold has idle fetches wait for the job, but not if its source lets it wait, and not for long if it cannot begin because its host lets others wait. The caller holds b.mu.
func (j *job) hold() {
	if j.gated || j.slow {
		return
	}
	j.gated = true
	j.b.engine.gate.enter()
	if !j.started {
		j.queued = time.AfterFunc(slowAnswer, func() {
			j.b.mu.Lock()
			defer j.b.mu.Unlock()
			if !j.started {
				j.unhold()
			}
		})
	}
}

// begin says that the job asks the backend. The caller holds b.mu.
func (j *job) begin() {
	j.started = true
	if j.queued != nil {
		j.queued.Stop()
	}
}

// unhold lets them go on. The caller holds b.mu.
func (j *job) unhold() {
	if j.gated {
		j.gated = false
		j.b.engine.gate.leave()
	}
}

// wait has a reader wait for frame i, which is on its way. A job that has not begun is cut, so that the frame need not wait for those before it. The caller
// holds b.binding and b.mu.
func (b *Blob) wait(f *fetching, i int) *fetching {
	if f.job == nil { // it is being discarded, and may be fetched again then
		return f
	}
	if j := f.job; !j.started && !j.urgent && i > j.frames[0] {
		k := slices.Index(j.frames, i)
		rest := b.job(j.frames[k:], j.class)
		rest.steady = j.steady
		j.frames = j.frames[:k:k]
		for _, i := range rest.frames {
			b.inflight[i].job = rest
		}
		rest.want(i)
		rest.enqueue()
		b.work.Go(rest.run)
	}
	f.job.want(i)
	return f
}

// run brings the job's frames, each completed as soon as it is in place. It retries what failed as long as somebody waits for it, and gives every frame
// its verdict exactly once.
func (j *job) run() {
	b, e := j.b, j.b.engine
	pause := e.opts.Backoff
	var spent timeline.Cost // over all attempts
	for attempt := 1; ; attempt++ {
		done, err := j.attempt(attempt, &spent)
		if err == nil {
			return
		}
		if done > 0 {
			attempt, pause = 1, e.opts.Backoff // progress was made: the next frame has tries of its own
		}
		over, skip := j.verdict(attempt, err, spent)
		if over {
			return
		}
		if skip { // one bad frame says nothing of the next
			attempt, pause = 0, e.opts.Backoff
			continue
		}
		j.source.stats.retries.Add(1)
		wait := spread(max(pause, backend.RetryAfter(err))) // asking earlier would only make it worse
		select {
		case <-time.After(wait):
			spent.Server += wait
			pause = min(2*pause, maxBackoff)
		case <-b.ctx.Done():
		}
	}
}

// spread lengthens a wait by up to a quarter, so that what failed together is not asked for together.
func spread(wait time.Duration) time.Duration { return wait + rand.N(wait/4+1) }

// verdict decides what becomes of the frames that an attempt has not brought: over says that all have got their verdict, skip that the first of them has.
func (j *job) verdict(attempt int, err error, spent timeline.Cost) (over, skip bool) {
	b, log := j.b, j.b.engine.log
	b.mu.Lock()
	defer b.mu.Unlock()
	j.err = err
	limit := b.patience()
	corrupt := errors.Is(err, blob.ErrCorrupt)
	tries := b.engine.opts.Attempts
	// Credentials are replaced while containers run, by somebody who may be a little late: a reader that is not let in waits for that as for a server that is away.
	hopeless := backend.IsPermanent(err) && !backend.IsRefusal(err) && !corrupt
	final := corrupt && attempt >= corruptAttempts || tries > 0 && attempt >= tries ||
		limit >= 0 && (hopeless || time.Since(j.since) >= limit)
	switch {
	case b.ctx.Err() != nil:
		j.fail(len(j.frames), context.Cause(b.ctx), spent)
		return true, false
	case errors.Is(err, ErrUnbound): // the target was closed meanwhile, and nothing else is bound
		log.Debug("frame has nowhere to go any more", "blob", b.ID(), "frame", j.frames[0], "err", err)
		j.fail(len(j.frames), err, spent)
		return true, false
	case errors.Is(err, errTarget):
		level := slog.LevelError
		if p := b.Problem(); p != nil && errors.Is(p.Err, errTarget) { // a full disk would fill the log too
			level = slog.LevelDebug
		}
		log.Log(b.ctx, level, "frame could not be stored", "blob", b.ID(), "frame", j.frames[0], "err", err)
		b.trouble(j.frames[0], err, true)
		j.fail(len(j.frames), err, spent)
		return true, false
	case !j.urgent:
		j.fail(len(j.frames), err, spent)
		return true, false
	case !final:
		j.unhold() // a source in trouble is no reason not to use the others, until it brings something
		log.Warn("frame could not be fetched; it is tried again", "blob", b.ID(), "frame", j.frames[0], "attempt", attempt, "err", err)
		b.trouble(j.frames[0], err, false)
		return false, false
	}
	log.Error("frame could not be had", "blob", b.ID(), "frame", j.frames[0], "attempts", attempt, "err", err)
	b.trouble(j.frames[0], err, true)
	if corrupt {
		j.fail(1, err, spent)
		return len(j.frames) == 0, true
	}
	j.fail(len(j.frames), err, spent)
	return true, false
}

// fail tells the readers of the first n frames that they cannot be had. The caller holds b.mu.
func (j *job) fail(n int, err error, spent timeline.Cost) {
	for range n {
		j.finish(err, spent)
	}
}

// finish tells those who wait for the first frame how it went, and goes on to the next. The caller holds b.mu.
func (j *job) finish(err error, spent timeline.Cost) {
	i := j.frames[0]
	j.frames = j.frames[1:]
	f := j.b.inflight[i]
	delete(j.b.inflight, i)
	f.err, f.cost = err, spent
	j.moved = time.Now()
	close(f.done)
	switch {
	case j.urgent && (i >= j.last || len(j.frames) == 0):
		j.calm()
	case j.urgent && err == nil:
		j.hold()
	}
}

// yield gives way to readers that wait for something else. It reports false if the rest of the job has been given up.
func (j *job) yield() bool {
	b := j.b
	b.mu.Lock()
	if j.urgent || j.steady || !j.class.idle() {
		b.mu.Unlock()
		return true
	}
	for k, t := range j.tickets {
		if !j.queues()[k].demote(t) {
			j.fail(len(j.frames), errDropped, timeline.Cost{})
			b.mu.Unlock()
			return false
		}
	}
	called := j.called
	b.mu.Unlock()
	b.engine.gate.wait(b.ctx, called)
	return true
}

// attempt asks the backend once for the frames that are left and returns how many of them came into place before it was over.
func (j *job) attempt(number int, spent *timeline.Cost) (done int, err error) {
	b, s := j.b, j.source
	queued, before := time.Now(), *spent
	release, err := j.acquire()
	if err != nil {
		return 0, err
	}
	defer release()
	if err := b.engine.space.admit(); err != nil {
		return 0, err
	}
	if j.bound.closed.Load() {
		if err := j.rebind(); err != nil {
			return 0, err
		}
	}
	b.mu.Lock()
	j.begin()
	run := j.frames
	c := j.now()
	ctx, giveUp := context.WithCancelCause(b.ctx)
	defer giveUp(nil)
	j.moved, j.giveUp = time.Now(), giveUp
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		j.giveUp = nil
		b.mu.Unlock()
		if gone := context.Cause(ctx); gone != nil && b.ctx.Err() == nil {
			err = gone
		}
	}()
	first, last := b.m.Frame(run[0]), b.m.Frame(run[len(run)-1])
	s.stats.active.Add(1)
	defer s.stats.active.Add(-1)
	b.engine.active.Add(1)
	defer b.engine.active.Add(-1)

	start := time.Now()
	spent.Queue += start.Sub(queued) // others' requests are in the way
	defer func() { b.recordFetch(j.source, run, done, c, number, queued, spent.Minus(before), err) }()
	s.stats.requests[c].Add(1)
	var body io.ReadCloser
	err = j.patiently(func() (err error) {
		body, err = s.open(ctx, b, c, first.SrcOff, last.SrcOff+int64(last.SrcLen)-first.SrcOff)
		return err
	})
	spent.Server += time.Since(start)
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		s.stats.errors.Add(1)
		return 0, err
	}
	defer func() { s.stats.reads.Observe(time.Since(start).Seconds()) }()

	for _, i := range run {
		if err := j.bring(i, body, spent); err != nil {
			if errors.Is(err, blob.ErrCorrupt) {
				backend.Reject(body)
			}
			if !errors.Is(err, errTarget) {
				s.stats.errors.Add(1)
			}
			if !strings.Contains(err.Error(), s.String()) {
				err = fmt.Errorf("%s: %w", s, err)
			}
			return done, err
		}
		if done++; done < len(run) && !j.yield() {
			return done, nil
		}
	}
	return done, nil
}
