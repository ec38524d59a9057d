package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandWithin is how long a command may take that a healthy daemon obeys.
const commandWithin = time.Minute

// take makes a slot busy if it is in a state.
func (s *soak) take(sl *slot, from state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl.state != from {
		return false
	}
	sl.state = busy
	return true
}

func (s *soak) put(sl *slot, to state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.state = to
}

// inBackground runs pagein, and passes what became of it: whether it failed, and whether that is excused by what was done meanwhile.
func (s *soak) inBackground(ctx context.Context, done func(err error, excused bool), args ...string) {
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commandWithin)
		defer cancel()
		from := time.Now()
		_, err := s.daemon.pagein(ctx, args...)
		done(err, s.judge.excused(from, time.Now(), func(*trouble) bool { return true }))
	}()
}

// mount mounts an image on an empty place.
func (s *soak) mount(ctx context.Context, a, b, c int) error {
	sl := s.slots[a%len(s.slots)]
	if !s.take(sl, empty) {
		return nil
	}
	sl.image, sl.wait = b%len(s.images), c%2 == 0
	args := []string{"mount", "--deadline", "2s"}
	if sl.wait {
		args[2] = "wait"
	}
	if c%8 < 2 {
		args = append(args, "--prefetch", "all")
	}
	s.count["mounts"]++
	s.inBackground(ctx, func(err error, excused bool) { s.mountEnded(sl, err, excused) }, append(args, s.images[sl.image].ref, sl.target)...)
	return nil
}

// mountEnded finds out whether there is a mount now. A daemon that was killed may have made it before it could say so.
func (s *soak) mountEnded(sl *slot, err error, excused bool) {
	now, lookErr := s.isMounted(sl)
	switch {
	case lookErr != nil:
		s.judge.fail("look for mounts: %v", lookErr)
	case err == nil && !now:
		s.judge.fail("mounted on %s, it was said, and nothing is there", sl.target)
	case err != nil && strings.Contains(err.Error(), "another mount namespace"): // over fscache an image that is still in use cannot be mounted anew
	case err != nil && !excused:
		s.judge.fail("mount on %s failed without need: %v", sl.target, err)
	}
	if now {
		s.put(sl, mounted)
	} else {
		s.put(sl, empty)
	}
}

func (s *soak) isMounted(sl *slot) (bool, error) {
	all, err := s.place.mounts()
	return slices.Contains(all, sl.target), err
}

// unmount asks the daemon to unmount; readers may be in the way.
func (s *soak) unmount(ctx context.Context, a, _, _ int) error {
	sl := s.slots[a%len(s.slots)]
	if !s.take(sl, mounted) {
		return nil
	}
	s.count["unmounts"]++
	s.inBackground(ctx, func(err error, excused bool) { s.unmountEnded(sl, err, excused) }, "umount", sl.target)
	return nil
}

func (s *soak) unmountEnded(sl *slot, err error, excused bool) {
	now, lookErr := s.isMounted(sl)
	switch {
	case lookErr != nil:
		s.judge.fail("look for mounts: %v", lookErr)
	case err == nil && now:
		s.judge.fail("unmounted %s, it was said, and it is still there", sl.target)
	case err != nil && strings.Contains(err.Error(), "busy"):
		s.mu.Lock()
		s.count["unmounts refused as busy"]++
		s.mu.Unlock()
	case err != nil && !excused:
		s.judge.fail("unmounting %s failed without need: %v", sl.target, err)
	}
	if now {
		s.put(sl, mounted)
	} else {
		s.put(sl, empty)
	}
}

// unmountLazily takes a mount away behind the daemon's back; readers go on with it.
func (s *soak) unmountLazily(_ context.Context, a, _, _ int) error {
	sl := s.slots[a%len(s.slots)]
	if !s.take(sl, mounted) {
		return nil
	}
	s.count["unmounts by others"]++
	if err := unix.Unmount(sl.target, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("%s: %w", sl.target, err)
	}
	s.put(sl, empty)
	return nil
}

// beginReading starts a reader of something that is mounted.
func (s *soak) beginReading(_ context.Context, a, _, c int) error {
	s.sweep()
	sl := s.slots[a%len(s.slots)]
	s.mu.Lock()
	there := sl.state == mounted
	s.mu.Unlock()
	if !there || len(s.readers) >= s.options.readers {
		return nil
	}
	s.count["readers"]++
	r, err := s.read(sl, uint64(c), false)
	if err == nil {
		s.readers = append(s.readers, r)
	}
	return err
}

// sweep forgets readers that have ended.
func (s *soak) sweep() {
	s.readers = slices.DeleteFunc(s.readers, func(r *reading) bool {
		select {
		case <-r.done:
			return true
		default:
			return false
		}
	})
}

// endReader asks a reader to end when it can.
func (s *soak) endReader(_ context.Context, a, _, _ int) error {
	if len(s.readers) > 0 {
		s.readers[a%len(s.readers)].tell()
	}
	return nil
}

// killReader kills a reader, which often waits for the daemon.
func (s *soak) killReader(_ context.Context, a, _, _ int) error {
	if len(s.readers) > 0 {
		s.count["readers killed"]++
		s.kill(s.readers[a%len(s.readers)])
	}
	return nil
}

// collect has the daemon evict some of what nobody has mounted.
func (s *soak) collect(ctx context.Context, a, _, _ int) error {
	s.count["garbage collections"]++
	s.inBackground(ctx, func(err error, excused bool) {
		if err != nil && !excused {
			s.judge.fail("garbage collection failed without need: %v", err)
		}
	}, "gc", "--free", fmt.Sprintf("%dMB", 1+a%64))
	return nil
}
