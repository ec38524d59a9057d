package trace

import (
	"reflect"
	"testing"
	"time"

	"github.com/pagein/pagein/bpf"
	"github.com/pagein/pagein/profile"
)

const page = profile.PageSize

func TestARecordingIsWhatWasTouchedFirst(t *testing.T) {
	files := map[uint64]File{1: {"/one", 100 * page}, 2: {"/two", 10}}
	r := NewRecording(100)
	for _, touch := range []bpf.Touch{
		{Time: 3000100, Device: 7, Inode: 1, Page: 64, Pages: 0b1011, Kind: bpf.Read},
		{Time: 1000100, Device: 7, Inode: 2, Pages: 1, Kind: bpf.Fault}, // late in the buffer
		{Time: 4000100, Device: 7, Inode: 1, Page: 64, Pages: 0b1111, Kind: bpf.Around},
		{Time: 5000100, Device: 7, Inode: 1, Page: 0, Pages: 0b11, Kind: bpf.Around},
		{Time: 6000100, Device: 7, Inode: 1, Page: 0, Pages: 0b10, Kind: bpf.Read}, // certain now
		{Time: 7000100, Device: 7, Inode: 9, Pages: 0b111, Kind: bpf.Read},
		{Time: 8000100, Device: 8, Inode: 1, Pages: 1, Kind: bpf.Read},
	} {
		r.Add(touch)
	}
	p, sum := r.Profile(7, files)
	want := []profile.Entry{
		{Path: "/two", Size: 10, Len: page, Time: time.Millisecond, Kind: profile.KindFault},
		{Path: "/one", Size: 100 * page, Off: 64 * page, Len: 2 * page, Time: 3 * time.Millisecond},
		{Path: "/one", Size: 100 * page, Off: 67 * page, Len: page, Time: 3 * time.Millisecond},
		{Path: "/one", Size: 100 * page, Off: 66 * page, Len: page, Time: 4 * time.Millisecond, Kind: profile.KindAround},
		{Path: "/one", Size: 100 * page, Off: 0, Len: page, Time: 5 * time.Millisecond, Kind: profile.KindAround},
		{Path: "/one", Size: 100 * page, Off: page, Len: page, Time: 5 * time.Millisecond, Kind: profile.KindFault},
	}
	for i := range p.Entries {
		p.Entries[i].Runs = 0
	}
	if !reflect.DeepEqual(p.Entries, want) {
		t.Errorf("the profile has\n%+v, want\n%+v", p.Entries, want)
	}
	if want := (Summary{Files: 2, Sure: 5 * page, Around: 2 * page, Unnamed: 3}); sum != want {
		t.Errorf("the summary is %+v, want %+v", sum, want)
	}
	if got, want := r.Devices(), []Device{{7, 10}, {8, 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("touched devices are %v, want %v", got, want)
	}
}

func TestTimesCountFromTheFirstTouchWhereNothingElseIsKnown(t *testing.T) {
	r := NewRecording(0)
	if got := r.Origin(); got != 0 {
		t.Errorf("an empty recording began at %v", got)
	}
	r.Add(bpf.Touch{Time: 5000, Inode: 1, Pages: 1})
	r.Add(bpf.Touch{Time: 4000, Inode: 1, Pages: 2})
	p, _ := r.Profile(0, map[uint64]File{1: {"/a", page}})
	if r.Origin() != 4000 || p.Entries[0].Time != 0 {
		t.Errorf("began at %v: %+v", r.Origin(), p.Entries)
	}
}
