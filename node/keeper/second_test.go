package keeper

import (
	"context"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// newSecond returns a second holder, for which another keeper stands in, and a function that lists what it holds.
func newSecond(t *testing.T) (*Notifier, func() []string) {
	t.Helper()
	opt := newOptions(t)
	first, err := Start(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { first.Close() }) // attached, it goes on without anything to hold
	return Systemd(opt.Socket), func() (names []string) {
		c, err := Start(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fds := c.Take()
		defer closeAll(fds)
		for name := range fds {
			names = append(names, name)
		}
		slices.Sort(names)
		return names
	}
}

func TestASecondHolderHasWhatTheKeeperHas(t *testing.T) {
	opt := newOptions(t)
	second, held := newSecond(t)
	early := start(t, opt)
	if err := early.Hold("early", memfd(t, "early")); err != nil {
		t.Fatal(err)
	}
	early.Close()
	opt.Second, opt.Trouble = second, func(err error) { t.Error(err) }
	c := start(t, opt)
	defer closeAll(c.Take())
	if err := c.Hold("late", memfd(t, "late")); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []string{"late"}) {
		t.Errorf("before Share it has %v", got)
	}
	c.Share(t.Context())
	if got := held(); !slices.Equal(got, []string{"early", "late"}) {
		t.Errorf("after Share it has %v", got)
	}
	if err := c.Release("early"); err != nil {
		t.Fatal(err)
	}
	if got := held(); !slices.Equal(got, []string{"late"}) {
		t.Errorf("after Release it has %v", got)
	}
}

func TestWhatAKeeperLostIsHadFromTheSecondHolder(t *testing.T) {
	opt := newOptions(t)
	before := start(t, opt)
	if err := before.Hold("both", memfd(t, "the keeper's")); err != nil {
		t.Fatal(err)
	}
	before.Close()
	mounts, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	opt.Inherited = map[string]int{"both": memfd(t, "systemd's"), "lost": memfd(t, "lost"), MountsName: mounts, unnamed: memfd(t, "whose?")}
	c := start(t, opt)
	fds := c.Take()
	defer closeAll(fds)
	if len(fds) != 3 || content(t, fds["both"]) != "the keeper's" || content(t, fds["lost"]) != "lost" {
		t.Errorf("taken over is %v", fds)
	}
	opt.Inherited = nil
	again := start(t, opt).Take() // while the first is attached: nothing that is held is needed
	defer closeAll(again)
	if len(again) != 3 || content(t, again["lost"]) != "lost" {
		t.Errorf("the keeper has %v", again)
	}
}

// What is given up before Share has come to it must not come back with the next start.
func TestWhatIsGivenUpEarlyIsGivenUpByTheSecondHolderToo(t *testing.T) {
	opt := newOptions(t)
	second, held := newSecond(t)
	before := start(t, opt)
	fd := memfd(t, "x")
	if err := errors.Join(before.Hold("x", fd), second.Hold("x", fd)); err != nil {
		t.Fatal(err)
	}
	before.Close()
	opt.Second, opt.Trouble = second, func(err error) { t.Error(err) }
	opt.Inherited = map[string]int{"x": memfd(t, "the same, given back")}
	c := start(t, opt)
	defer closeAll(c.Take())
	if err := c.Release("x"); err != nil {
		t.Fatal(err)
	}
	c.Share(t.Context())
	if got := held(); len(got) != 0 {
		t.Errorf("it still has %v", got)
	}
}

func TestTroubleWithTheSecondHolderIsToldAndNoMore(t *testing.T) {
	opt := newOptions(t)
	var told []error
	opt.Second, opt.Trouble = Systemd("/nowhere/at/all"), func(err error) { told = append(told, err) }
	c, err := Start(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Hold("x", memfd(t, "x")); err != nil {
		t.Errorf("the keeper has it, and Hold says %v", err)
	}
	if err := c.Release("x"); err != nil || len(told) != 1 {
		t.Errorf("told was %v; Release says %v", told, err)
	}
}
