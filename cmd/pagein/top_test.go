package main

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/report"
)

func TestTopShowsRates(t *testing.T) {
	before := sampleStatus()
	now := before
	now.Totals.BackendBytes += 40 << 20
	now.Totals.DemandBytes += 10 << 20
	now.Totals.PrefetchBytes += 30 << 20
	now.Totals.BackendRequests += 50
	now.Totals.InFlight = 7
	now.Totals.MissTime.Count += 20
	now.Images = append(slices.Clone(now.Images), control.Image{ID: strings.Repeat("ef", 32), Ref: "localhost:5000/gone", State: control.Lost})
	var out strings.Builder
	if err := printTop(&out, interval{before: before, now: now, elapsed: 2 * time.Second, slow: []slowFile{{"/usr/bin/python3", before.Images[0].ID, 1234567 * time.Microsecond, 3, 2}}}); err != nil {
		t.Fatal(err)
	}
	const want = `pageind   v1        process 42
received  20 MiB/s  for readers 5.0 MiB/s, ahead of them 0 B/s, prefetched 15 MiB/s
requests  25/s      7 under way, 2 failed, 3 repeated, 5 asked twice
misses    10/s      6 waiting, 4 failed

ID            STATE    PRESENT  OF       DONE        REF
abababababab  waiting  12 MiB   300 MiB  ..........  localhost:5000/go:lazy
efefefefefef  lost     0 B      0 B      -           localhost:5000/gone

WAITED   READS  WAITING  IMAGE         FILE
1.2346s  3      2        abababababab  /usr/bin/python3

abababababab: readers wait, it is tried again: registry localhost:5000: connection refused
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestTopAsksEachIntervalUntilItIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		shown := 0
		err := watchTop(ctx, func(context.Context) (control.Status, error) { return sampleStatus(), nil }, time.Second, false, func(s interval) error {
			shown++
			if s.elapsed != time.Second {
				t.Errorf("interval %d of %v", shown, s.elapsed)
			}
			return nil
		})
		if shown != 3 || err == nil {
			t.Errorf("shown %d times, %v", shown, err)
		}
	})
}

func TestTopOnceEndsByItself(t *testing.T) {
	d := &fakeDaemon{status: sampleStatus()}
	address := serveFake(t, d)
	status, stdout, stderr := pagein(t, "pagein", "--address", address, "top", "--once", "--interval", "100ms")
	if status != 0 || !strings.HasPrefix(stdout, "pageind") || strings.Contains(stdout, "\x1b") {
		t.Errorf("%d, %q, %q", status, stdout, stderr)
	}
	_, stdout, _ = pagein(t, "pagein", "--address", address, "top", "--once", "--json", "--interval", "100ms")
	var got control.Status
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || !reflect.DeepEqual(got, d.status) || strings.Count(stdout, "\n") != 1 {
		t.Errorf("%q, %v", stdout, err)
	}
}

func TestTopNamesTheFilesThatReadersWaitFor(t *testing.T) {
	before, now := sampleStatus(), sampleStatus()
	before.Totals.WaitingReads, now.Totals.WaitingReads = 0, 0
	asked := 0
	files := slowFiles{trees: make(map[string]*report.Tree), tree: func(context.Context, string) (*report.Tree, error) { return nil, errors.New("gone") }}
	files.timeline = func(_ context.Context, image string, last time.Duration) (control.Timeline, error) {
		asked++
		if image != now.Images[0].ID || last != time.Second {
			t.Errorf("asked for %s of %s", last, image)
		}
		wait := timeline.Event{Kind: timeline.Wait, Took: time.Second}
		return control.Timeline{Snapshot: timeline.Snapshot{Events: []timeline.Event{wait, wait}}, Waiting: []control.Waiter{{For: time.Minute}}}, nil
	}
	if got := files.look(t.Context(), interval{before: before, now: now, elapsed: time.Second}); asked != 0 || len(got) != 0 {
		t.Errorf("nothing was fetched, and there are %+v", got)
	}
	now.Images[0].FetchedBytes++
	now.Images[0].State = control.Complete // by what they waited for
	want := []slowFile{{"(no file that is known)", now.Images[0].ID, 62 * time.Second, 2, 1}}
	if got := files.look(t.Context(), interval{before: before, now: now, elapsed: time.Second}); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
