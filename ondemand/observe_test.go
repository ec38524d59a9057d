package ondemand

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pagein/pagein/ondemand/timeline"
)

// of returns the events of one kind.
func of(r *timeline.Recorder, k timeline.Kind) []timeline.Event {
	return slices.DeleteFunc(r.Snapshot(0).Events, func(e timeline.Event) bool { return e.Kind != k })
}

func TestWhatReadersWaitedForIsRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1})
		f.object.delay = time.Second
		r := timeline.NewRecorder()
		f.Record(r, 7)
		time.Sleep(time.Minute)
		var both sync.WaitGroup
		for i := range 2 { // the second comes when half of the time is over
			both.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / 2)
				if err := f.Fill(t.Context(), 4096, 8192); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second * 3 / 4)
		if w := f.Waiting(); len(w) != 2 || w[0].Off != 4096 || w[0].Len != 8192 {
			t.Errorf("waiting are %+v", w)
		}
		both.Wait()
		synctest.Wait() // a fetch is recorded after who waited for it goes on
		if w := f.Waiting(); len(w) != 0 {
			t.Errorf("waiting are %+v", w)
		}
		waits := of(r, timeline.Wait)
		slices.SortFunc(waits, func(a, b timeline.Event) int { return int(a.At - b.At) })
		want := timeline.Event{Kind: timeline.Wait, Blob: 7, At: time.Minute, Off: 4096, Len: 8192, Took: time.Second, Cost: timeline.Cost{Server: time.Second}, Reason: "demand"}
		late := want
		late.At, late.Took, late.Cost, late.Joined = want.At+time.Second/2, time.Second/2, timeline.Cost{Server: time.Second / 2}, true
		if len(waits) != 2 || waits[0] != want || waits[1] != late {
			t.Errorf("recorded %+v\nwant %+v\nand %+v", waits, want, late)
		}
		fr := f.Map().Frame(0)
		fetches := of(r, timeline.Fetch)
		if len(fetches) != 1 || fetches[0].Bytes != int64(fr.SrcLen) || fetches[0].Len != int64(fr.Len) || fetches[0].Cost.Server != time.Second || fetches[0].Site != "other" {
			t.Errorf("recorded %+v", fetches)
		}
		if s := r.Snapshot(0); len(s.Curves) != 1 || s.Curves[0].Bytes[len(s.Curves[0].Bytes)-1] != int64(fr.SrcLen) {
			t.Errorf("curves %+v", s.Curves)
		}
		if !f.Has(0, 4096) || !f.Has(8192, 4096) {
			t.Error("it is not there")
		}
		if touches := of(r, timeline.Touch); len(touches) != 2 || touches[1].Off != 8192 || touches[1].Len != 4096 {
			t.Errorf("two ranges were touched, recorded %+v", touches)
		}
	})
}

func TestFailuresAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Options{ReadAhead: -1, Backoff: time.Second, Attempts: 2})
		r := timeline.NewRecorder()
		f.Record(r, 0)
		down := errors.New("server is down")
		f.object.spoil = func(n, _ int64, b []byte) ([]byte, error) { return b, down }
		if err := f.Fill(t.Context(), 0, 1); !errors.Is(err, down) {
			t.Fatal(err)
		}
		synctest.Wait()
		fetches, waits := of(r, timeline.Fetch), of(r, timeline.Wait)
		if len(fetches) != 2 || fetches[1].Try != 2 || fetches[1].Err != down.Error() || len(waits) != 1 || waits[0].Err != down.Error() || waits[0].Cost.Server < time.Second {
			t.Errorf("recorded %+v and %+v", fetches, waits)
		}
	})
}

func TestOnlySoManyAreTold(t *testing.T) {
	f := newFixture(t, Options{})
	var all []*timeline.Recorder
	for i := range maxRecorders + 2 {
		r := timeline.NewRecorder()
		f.Record(r, i)
		all = append(all, r)
	}
	f.Unrecord(all[5])
	if err := f.Fill(t.Context(), 0, 1); err != nil {
		t.Fatal(err)
	}
	for i, r := range all {
		if told, want := len(of(r, timeline.Wait)) > 0, i > 1 && i != 5; told != want {
			t.Errorf("recorder %d was told: %v", i, told)
		}
	}
}

// BenchmarkRecordedMiss is BenchmarkMiss with an image that records it.
func BenchmarkRecordedMiss(b *testing.B) {
	f := newFixture(b, Options{ReadAhead: -1})
	f.Record(timeline.NewRecorder(), 0)
	b.SetBytes(int64(f.Map().Frame(0).Len))
	for b.Loop() {
		f.memory.Clear(0)
		if err := f.Fill(b.Context(), 0, 4096); err != nil {
			b.Fatal(err)
		}
	}
}

// TestOneCauseIsOneText has the same failure of many ranges: only so many texts are kept.
func TestOneCauseIsOneText(t *testing.T) {
	err := fmt.Errorf("given up after 30s: read bytes %d to %d of registry/app: %w", 4096, 8191, errors.New("refused"))
	if got, want := words(err), "given up after 30s: read registry/app: refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
