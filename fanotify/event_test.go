package fanotify

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// encode builds an event as Linux 6.14 and later send it.
func encode(fd int32, mask, off, n uint64) []byte {
	b := make([]byte, metadataSize+rangeSize)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	b[4] = unix.FANOTIFY_METADATA_VERSION
	binary.NativeEndian.PutUint16(b[6:], metadataSize)
	binary.NativeEndian.PutUint64(b[8:], mask)
	binary.NativeEndian.PutUint32(b[16:], uint32(fd))
	b[metadataSize] = unix.FAN_EVENT_INFO_TYPE_RANGE
	binary.NativeEndian.PutUint16(b[metadataSize+2:], rangeSize)
	binary.NativeEndian.PutUint64(b[metadataSize+8:], off)
	binary.NativeEndian.PutUint64(b[metadataSize+16:], n)
	return b
}

func TestEventsAreReadOrRefused(t *testing.T) {
	whole := encode(7, unix.FAN_PRE_ACCESS, 8192, 4096)
	with := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(whole)) }
	for _, c := range []struct {
		name string
		b    []byte
		want event
		ok   bool
	}{
		{"range", whole, event{fd: 7, off: 8192, n: 4096}, true},
		{"in a larger buffer", append(bytes.Clone(whole), 1, 2, 3), event{fd: 7, off: 8192, n: 4096}, true},
		{"after an unknown record", with(func(b []byte) []byte {
			b = append(b[:metadataSize], append([]byte{99, 0, 8, 0, 1, 2, 3, 4}, b[metadataSize:]...)...)
			binary.NativeEndian.PutUint32(b, uint32(len(b)))
			return b
		}), event{fd: 7, off: 8192, n: 4096}, true},
		{"no range", with(func(b []byte) []byte {
			binary.NativeEndian.PutUint32(b, metadataSize)
			return b
		}), event{fd: 7}, true},
		{"a read is over", with(func(b []byte) []byte {
			binary.NativeEndian.PutUint64(b[8:], unix.FAN_ACCESS)
			binary.NativeEndian.PutUint32(b[20:], 77)
			return b
		}), event{fd: 7, tid: 77, over: true}, true},
		{"empty", nil, event{fd: -1}, false},
		{"half", whole[:20], event{fd: -1}, false},
		{"cut", whole[:40], event{fd: 7}, false},
		{"other version", with(func(b []byte) []byte { b[4]++; return b }), event{fd: 7}, false},
		{"other mask", encode(7, unix.FAN_OPEN_PERM, 0, 1), event{fd: 7}, false},
		{"record of no length", with(func(b []byte) []byte { b[metadataSize+2] = 0; return b }), event{fd: 7}, false},
		{"record too long", with(func(b []byte) []byte { b[metadataSize+2] = 200; return b }), event{fd: 7}, false},
		{"negative range", encode(7, unix.FAN_PRE_ACCESS, 1<<63, 1), event{fd: 7, off: -1 << 63, n: 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseEvent(c.b)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("got %+v, %v; want %+v, ok %v", got, err, c.want, c.ok)
			}
		})
	}
}

func TestEventsOfOneReadAreCutApart(t *testing.T) {
	whole := encode(7, unix.FAN_PRE_ACCESS, 8192, 4096)
	small := func(fd int32) []byte {
		b := encode(fd, unix.FAN_ACCESS, 0, 0)[:metadataSize]
		binary.NativeEndian.PutUint32(b, metadataSize)
		return b
	}
	slot := func(events ...[]byte) []byte {
		return append(bytes.Join(events, nil), make([]byte, slotEvent)...)[:slotEvent]
	}
	for _, c := range []struct {
		name           string
		b, one, second []byte
	}{
		{"one with a range", whole, whole, nil},
		{"one with a range, in a slot", slot(whole), slot(whole), nil},
		{"one without", small(7), small(7), nil},
		{"one without, in a slot", slot(small(7)), slot(small(7)), nil},
		{"two", slot(small(7), small(8))[:2*metadataSize], small(7), small(8)},
		{"two, in a slot", slot(small(7), small(8)), small(7), slot(small(7), small(8))[metadataSize:]},
		{"nothing", nil, nil, nil},
		{"no length", make([]byte, slotEvent), make([]byte, slotEvent), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			one, second := cut(c.b)
			if !bytes.Equal(one, c.one) || !bytes.Equal(second, c.second) {
				t.Errorf("got %x and %x, want %x and %x", one, second, c.one, c.second)
			}
		})
	}
}

func FuzzEvent(f *testing.F) {
	f.Add(encode(7, unix.FAN_PRE_ACCESS, 8192, 4096))
	f.Add(encode(-1, unix.FAN_PRE_ACCESS, 1<<63, 1<<63))
	f.Fuzz(func(t *testing.T, b []byte) {
		if one, second := cut(b); len(one)+len(second) != len(b) {
			t.Errorf("%d bytes were cut into %d and %d", len(b), len(one), len(second))
		}
		ev, err := parseEvent(b)
		if err == nil && (ev.off < 0 || ev.n < 0) {
			t.Errorf("range %d+%d was accepted", ev.off, ev.n)
		}
	})
}
