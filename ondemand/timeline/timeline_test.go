package timeline

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventsAreKeptAsTheyWere(t *testing.T) {
	r := NewRecorder()
	want := []Event{
		{Kind: Wait, Blob: 3, At: 5 * time.Millisecond, Off: 1 << 40, Len: 4096, Took: 12345 * time.Microsecond, Cost: Cost{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond, 4 * time.Millisecond}, Reason: "demand", Joined: true},
		{Kind: Fetch, Off: 8192, Len: 1 << 20, Reason: "ahead", Bytes: 77777, Site: "registry example.com", Try: 2, Err: "no answer"},
	}
	for _, e := range want {
		r.Add(e)
	}
	r.Touch(65535, 1<<40+4095, 2, r.Began().Add(time.Second))
	want = append(want, Event{Kind: Touch, Blob: 65535, At: time.Second, Off: 1 << 40, Len: 8192})
	if got := r.Snapshot(0).Events; !reflect.DeepEqual(got, want) {
		t.Errorf("kept %+v\nwant %+v", got, want)
	}
}

// TestWhatIsLatestIsFoundAfterDays asks for the last second of an image that is mounted for long.
func TestWhatIsLatestIsFoundAfterDays(t *testing.T) {
	const days = 10 * 24 * time.Hour
	r := NewRecorder()
	r.Add(Event{At: days - time.Hour, Off: 1})
	r.Add(Event{At: days, Off: 2})
	r.Touch(0, 4096, 1, r.Began().Add(days+time.Millisecond))
	want := []Event{{At: days, Off: 2}, {Kind: Touch, At: days + time.Millisecond, Off: 4096, Len: 4096}}
	if got := r.Snapshot(days - time.Second).Events; !reflect.DeepEqual(got, want) {
		t.Errorf("found %+v, want %+v", got, want)
	}
}

func TestTheBeginningAndTheLatestAreKept(t *testing.T) {
	r := NewRecorder()
	const all = firstEvents + 3*lastEvents/2
	for i := range int64(all) {
		r.Add(Event{Off: i})
	}
	s := r.Snapshot(0)
	if len(s.Events) != firstEvents+lastEvents || s.Missed != lastEvents/2 {
		t.Fatalf("%d events, %d missed", len(s.Events), s.Missed)
	}
	for i, e := range s.Events {
		want := int64(i)
		if i >= firstEvents {
			want += lastEvents / 2
		}
		if e.Off != want {
			t.Fatalf("event %d is number %d, want %d", i, e.Off, want)
		}
	}
}

// TestARecorderIsSmall has more of everything than is kept.
func TestARecorderIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := NewRecorder()
	for i := range 100_000 {
		text := fmt.Sprint(i, strings.Repeat("x", 1000))
		r.Add(Event{Reason: text, Site: text, Err: text})
		r.Received(text, 1)
		r.Touch(1, int64(i)*4096, 1, time.Now())
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if took := int64(after.HeapAlloc) - int64(before.HeapAlloc); took > MaxBytes {
		t.Errorf("it takes %d bytes", took)
	} else {
		t.Logf("it takes %d bytes", took)
	}
	if n := len(r.Snapshot(0).Events); n != firstEvents+lastEvents+firstTouches {
		t.Errorf("it keeps %d events", n)
	}
	if s := r.Snapshot(0); s.Events[20].Err != other {
		t.Errorf("error number 20 is %q", s.Events[20].Err)
	}
}

func TestCurvesCountEveryByteForHoweverLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		var demand, ahead int64
		for i := range int64(3000) {
			r.Received("demand", i)
			demand += i
			if i%3 == 0 {
				r.Received("ahead", 1)
				ahead++
			}
			time.Sleep(time.Duration(i) * time.Millisecond)
		}
		s := r.Snapshot(0)
		if len(s.Curves) != 2 || len(s.Steps) > steps || len(s.Steps) < steps/2 || s.Steps[0].From != 0 || s.Steps[len(s.Steps)-1].To < time.Hour {
			t.Fatalf("%d curves, %d steps: %v", len(s.Curves), len(s.Steps), s.Steps)
		}
		for k, want := range []int64{demand, ahead} {
			curve := s.Curves[k].Bytes
			if got := curve[len(curve)-1]; len(curve) != len(s.Steps) || got != want {
				t.Errorf("%s ends at %d, want %d", s.Curves[k].Reason, got, want)
			}
		}
		for k, step := range s.Steps {
			if step.To < step.From || k > 0 && step.From <= s.Steps[k-1].To {
				t.Fatalf("step %d is %v, after %v", k, step, s.Steps[k-1])
			}
		}
	})
}

// TestAStartIsToldApartForHoweverLong has an image that is read now and then for days after it was started, which was hours after its mount.
func TestAStartIsToldApartForHoweverLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		r.Received("ahead", 1)
		time.Sleep(5 * time.Hour)
		began := r.Since(time.Now())
		for range 1000 { // 10 s
			r.Received("demand", 1)
			time.Sleep(10 * time.Millisecond)
		}
		for range 5000 { // 41 h
			time.Sleep(30 * time.Second)
			r.Received("demand", 1)
		}
		s := r.Snapshot(0)
		fine := 0
		for _, step := range s.Steps {
			if step.From >= began && step.To < began+10*time.Second && step.To-step.From <= finestLater {
				fine++
			}
		}
		if curve := s.Curves[1].Bytes; fine < 30 || curve[len(curve)-1] != 6000 {
			t.Errorf("the start has %d steps, and all of %d bytes came", fine, curve[len(curve)-1])
		}
	})
}

func TestWhoComesLateWaitedForTheRest(t *testing.T) {
	c := Cost{Queue: 4, Server: 30, Transfer: 15, Verify: 5}
	for d, want := range map[time.Duration]Cost{
		0: {}, 4: {Transfer: 3, Verify: 1}, 20: {Transfer: 15, Verify: 5}, 26: {Server: 6, Transfer: 15, Verify: 5}, 52: {Queue: 2, Server: 30, Transfer: 15, Verify: 5}, 100: c, -5: {},
	} {
		if got := c.Last(d); got != want {
			t.Errorf("last %d: %+v, want %+v", d, got, want)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	r := NewRecorder()
	for b.Loop() {
		r.Touch(1, 4096, 4096, time.Now())
		if len(r.touches) == firstTouches {
			r.touches = r.touches[:0]
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	r := NewRecorder()
	for b.Loop() {
		r.Add(Event{Reason: "demand", Site: "registry example.com"})
	}
}
