package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

const (
	// spareDescriptors is by how many an idle daemon may exceed a new one: connections that are kept, and what its libraries open once.
	spareDescriptors = 24
	// maxResident is how much memory the daemon may have at any time, in bytes.
	maxResident = 100 << 20
)

// putRight ends all troubles, reads everything that is mounted whole, checks the store, unmounts all, and looks for what is left.
func (s *soak) putRight(ctx context.Context) error {
	if s.healing > 0 {
		s.cure()
	}
	if s.filling > 0 {
		s.free()
	}
	s.healing, s.filling = 0, 0
	for _, r := range s.readers {
		r.tell()
	}
	for _, r := range s.readers {
		s.await(r)
	}
	s.readers = nil
	s.tasks.Wait()
	if err := s.judge.verdict(); err != nil {
		return err
	}
	if err := s.readAll(); err != nil {
		return err
	}
	if _, err := s.daemon.pagein(ctx, "check", "--store"); err != nil { // what is said to be on disk, while it is mounted
		return err
	}
	if err := s.unmountAll(ctx); err != nil {
		return err
	}
	if err := s.lookForLeaks(ctx); err != nil {
		return err
	}
	return s.forgetData(ctx)
}

// forgetData empties the store, so that there is something to fetch again.
func (s *soak) forgetData(ctx context.Context) error {
	if _, err := s.daemon.pagein(ctx, "gc"); err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(s.place.root(), "blobs", "[0-9a-f]*"))
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("nothing is mounted, and pagein gc leaves %v", left)
	}
	return err
}

// readAll has each mounted image read whole, without an error.
func (s *soak) readAll() error {
	const tries = 4 // what was begun while all was wrong may still fail
	for _, sl := range s.slots {
		for try := 1; sl.state == mounted; try++ {
			before := s.judge.failures()
			r, err := s.read(sl, 1, true)
			if err != nil {
				return err
			}
			s.await(r)
			if err := s.judge.verdict(); err != nil {
				return err
			}
			if s.judge.failures() == before {
				s.count["images read whole"]++
				break
			}
			if try == tries {
				return fmt.Errorf("reads of %s still fail though all is well again", sl.target)
			}
			time.Sleep(slack / tries)
		}
	}
	return nil
}

func (s *soak) unmountAll(ctx context.Context) error {
	for _, sl := range s.slots {
		if sl.state != mounted {
			continue
		}
		if _, err := s.daemon.pagein(ctx, "umount", sl.target); err != nil {
			return fmt.Errorf("unmount what nobody uses: %w", err)
		}
		sl.state = empty
	}
	return nil
}

// lookForLeaks compares what daemon, keeper and kernel have with what they had before anything was mounted.
func (s *soak) lookForLeaks(ctx context.Context) error {
	var problem error
	if !eventually(30*time.Second, func() bool { problem = s.leak(ctx); return problem == nil }) {
		return fmt.Errorf("after all was unmounted: %w", problem)
	}
	if s.most.resident > maxResident {
		return fmt.Errorf("the daemon has had %d MiB of memory", s.most.resident>>20)
	}
	return nil
}

func (s *soak) leak(ctx context.Context) error {
	status, err := s.daemon.api.Status(ctx)
	if err != nil {
		return err
	}
	mounts, err := s.place.mounts()
	if err != nil {
		return err
	}
	if s.rest, err = usageOf(s.daemon.process.Pid); err != nil {
		return err
	}
	keeper, err := usageOf(s.daemon.keeper())
	if err != nil {
		return err
	}
	switch {
	case len(status.Images) > 0:
		return fmt.Errorf("the daemon still has image %s", status.Images[0].Ref)
	case status.Problem != "":
		return errors.New("the daemon has a problem: " + status.Problem)
	case status.Totals.WaitingReads > 0:
		return fmt.Errorf("%d reads wait", status.Totals.WaitingReads)
	case len(mounts) > 0:
		return fmt.Errorf("mounts are left: %v", mounts)
	case s.rest.marks > 0:
		return fmt.Errorf("%d files are marked", s.rest.marks)
	case s.rest.descriptors > s.base.descriptors+spareDescriptors:
		return fmt.Errorf("the daemon has %d descriptors, it began with %d; most are of %s", s.rest.descriptors, s.base.descriptors, mostOpen(s.daemon.process.Pid))
	case keeper.descriptors > s.baseKeeper.descriptors+spareDescriptors:
		return fmt.Errorf("the keeper has %d descriptors, it began with %d", keeper.descriptors, s.baseKeeper.descriptors)
	}
	return nil
}

// failures counts the reads that failed so far.
func (j *judge) failures() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.errors
}

// report says what was done, and what was found.
func (s *soak) report(wrong error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.count {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Printf("  %-32s %6d\n", name, s.count[name])
	}
	fmt.Printf("  %-32s %6d\n", "answers of the registry spoilt", s.server.spoilt())
	starts := slices.Sorted(slices.Values(s.daemon.starts))
	if n := len(starts); n > 0 {
		fmt.Printf("  from start to first answer: p50 %v, p99 %v\n", starts[n/2].Round(time.Millisecond), starts[n*99/100].Round(time.Millisecond))
	}
	fmt.Printf("  daemon at most: %d descriptors, %d marks, %d MiB; at rest: %d descriptors (%d when new), %d marks\n",
		s.most.descriptors, s.most.marks, s.most.resident>>20, s.rest.descriptors, s.base.descriptors, s.rest.marks)
	fmt.Printf("  %d reads, the slowest %v, of which %d failed as they might\n", s.judge.reads, s.judge.slowest.Round(time.Millisecond), s.judge.errors)
	if wrong != nil {
		fmt.Printf("FAIL seed %d: %d MiB verified, then: %v\n", s.seed, s.judge.bytes>>20, wrong)
		return
	}
	fmt.Printf("ok seed %d: %d MiB verified, wrong bytes 0, leaked descriptors, marks and mounts 0\n", s.seed, s.judge.bytes>>20)
}
