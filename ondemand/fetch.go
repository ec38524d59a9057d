package ondemand

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/ondemand/timeline"
)

// errTarget marks errors of the target: asking the backend again cannot mend them.
var errTarget = errors.New("write blob")

// bring reads frame i, the job's first, from body, verifies it, writes it and completes it.
func (j *job) bring(i int, body io.Reader, spent *timeline.Cost) error {
	b, e, f := j.b, j.b.engine, j.b.m.Frame(i)
	dst := e.bufs.get(f.Len)
	defer e.bufs.put(dst)
	src := dst // a raw frame needs no other place
	if f.Codec != blob.Raw {
		src = e.bufs.get(f.SrcLen)
		defer e.bufs.put(src)
	}

	start := time.Now()
	if err := j.source.lane.pace(b.ctx, f.SrcLen); err != nil {
		return err
	}
	n := 0
	err := j.patiently(func() (err error) {
		n, err = io.ReadFull(body, src)
		return err
	})
	spent.Transfer += time.Since(start)
	b.fetched.Add(int64(n))
	j.source.stats.received.Add(int64(n))
	if err != nil {
		return fmt.Errorf("read %d bytes at %d: %w", f.SrcLen, f.SrcOff, err)
	}
	start = time.Now()
	err = e.dec.Decode(dst, src, f)
	if err != nil {
		return fmt.Errorf("frame %d (%d bytes at %d): %w", i, f.SrcLen, f.SrcOff, err)
	}
	err = j.put(i, dst, f.Off)
	spent.Verify += time.Since(start)
	if err != nil {
		return fmt.Errorf("%w: %w", errTarget, err)
	}
	b.recovered(i)

	b.mu.Lock()
	c := j.class
	if i <= j.last {
		c = demand
	}
	j.source.stats.bytes[c].Add(int64(n))
	b.recordBytes(c, n)
	j.finish(nil, *spent)
	var then func()
	if b.onDone != nil && j.bound.presence.Count() == b.m.Frames() {
		then, b.onDone = b.onDone, nil
	}
	b.mu.Unlock()
	if then != nil {
		then()
	}
	return nil
}

// put writes a frame to the job's target, or to its successor if the target was closed meanwhile: that one's readers may be waiting for this very job.
func (j *job) put(frame int, p []byte, off int64) error {
	was := j.bound
	err := was.put(frame, p, off)
	if !errors.Is(err, ErrUnbound) || j.rebind() != nil || j.bound == was {
		return err
	}
	return j.bound.put(frame, p, off)
}

// rebind has the job write to what its blob is bound to now.
func (j *job) rebind() error {
	j.b.binding.RLock()
	defer j.b.binding.RUnlock()
	if err := j.b.open(); err != nil {
		return err
	}
	j.bound = j.b.bound
	return nil
}
