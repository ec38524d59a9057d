package ondemand

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingIsFetchedForAFullDisk has readers go on reading what is missing: none of it may be fetched over and over, and all must be well as soon as there is space.
func TestNothingIsFetchedForAFullDisk(t *testing.T) {
	for name, seen := range map[string]bool{"free space is known": true, "it is not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				free := int64(0)
				o := Options{}
				if seen {
					o.Free = func() int64 { return free }
				}
				f := newFixture(t, o)
				f.memory.fail = syscall.ENOSPC
				readAll := func() (failed int) {
					for i := range f.m.Frames() {
						if err := f.Fill(t.Context(), f.m.Frame(i).Off, 1); errors.Is(err, syscall.ENOSPC) {
							failed++
						} else if err != nil {
							t.Fatal(err)
						}
					}
					_ = f.Prefetch(t.Context(), 0, f.Size())
					synctest.Wait()
					return failed
				}
				_ = f.Fill(t.Context(), 0, 1)
				synctest.Wait()
				before := f.object.requests.Load()
				if n := readAll(); n != f.m.Frames() {
					t.Errorf("%d of %d reads failed for want of space", n, f.m.Frames())
				}
				if n := f.object.requests.Load() - before; n != 0 {
					t.Errorf("%d requests were made for what could not be stored", n)
				}
				before = f.object.requests.Load()
				for range 60 {
					time.Sleep(time.Second)
					readAll()
				}
				if n := f.object.requests.Load() - before; n < 5 || n > 10 {
					t.Errorf("%d requests were made in a minute to see whether there is space, want some 8", n)
				}
				f.memory.with(func() { f.memory.fail = nil })
				free = 1 << 30
				if !seen {
					time.Sleep(longestLack)
				}
				if n := readAll(); n != 0 {
					t.Errorf("%d reads failed though there is space", n)
				}
				if f.engine.space.lack != nil || f.Problem() != nil {
					t.Errorf("the disk still counts as full, problem %v", f.Problem())
				}
			})
		})
	}
}
