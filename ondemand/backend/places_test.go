package backend_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pagein/pagein/ondemand/backend"
	"github.com/pagein/pagein/ondemand/backend/backendtest"
)

// TestPlacesComeAndGo adds and drops places, and looks who is asked while the others fail.
func TestPlacesComeAndGo(t *testing.T) {
	a, b, c := &moody{name: "a"}, &moody{name: "b"}, &moody{name: "c"}
	p := backend.NewPlaces(quiet(), "a", a)
	asks := func(what string, want *moody) {
		t.Helper()
		for _, m := range []*moody{a, b, c} {
			m.asked.Store(0)
		}
		if _, err := backendtest.Read(context.Background(), p, 1, 100); (err != nil) != (want == nil) {
			t.Errorf("%s: %v", what, err)
		}
		if want != nil && want.asked.Load() != 1 {
			t.Errorf("%s: %s was asked %d times", what, want, want.asked.Load())
		}
	}
	asks("alone", a)
	p.Add("b", b)
	p.Add("b", c) // the same place
	asks("the first is preferred", a)
	a.fail = errors.New("hostile")
	asks("the first fails", b)
	p.Drop("b")
	asks("the second has a user", b)
	p.Drop("a")
	asks("the first is gone", b)
	p.Drop("b")
	asks("the last stays", b)
	b.fail = errors.New("down")
	asks("no other is asked", nil)
	if got, want := p.String(), b.String(); got != want || c.asked.Load() > 0 {
		t.Errorf("it is called %q, not %q", got, want)
	}
}
