package cachefiles

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

// encode builds a message the way the kernel does.
func encode(id, op, object uint32, payload []byte) []byte {
	b := make([]byte, headerSize, headerSize+len(payload))
	ne := binary.NativeEndian
	ne.PutUint32(b, id)
	ne.PutUint32(b[4:], op)
	ne.PutUint32(b[8:], uint32(headerSize+len(payload)))
	ne.PutUint32(b[12:], object)
	return append(b, payload...)
}

func openPayload(volume, cookie string, fd int32) []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(len(volume)))
	b = ne.AppendUint32(b, uint32(len(cookie)))
	b = ne.AppendUint32(b, uint32(fd))
	b = ne.AppendUint32(b, 0)
	return append(append(b, volume...), cookie...)
}

func readPayload(off, n uint64) []byte {
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, off), n)
}

func TestMessagesOfTheKernelAreUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		raw  []byte
		want message
	}{
		"open":  {encode(7, opOpen, 3, openPayload("erofs,pagein\x00", "image", 9)), message{id: 7, op: opOpen, object: 3, volume: "erofs,pagein", cookie: "image", fd: 9}},
		"close": {encode(8, opClose, 3, nil), message{id: 8, op: opClose, object: 3, fd: -1}},
		"read":  {encode(0, opRead, 3, readPayload(4096, 131072)), message{op: opRead, object: 3, fd: -1, off: 4096, n: 131072}},
	} {
		got, err := parseMessage(c.raw)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, c.want)
		}
		for n := range c.raw {
			if _, err := parseMessage(c.raw[:n]); err == nil {
				t.Errorf("%s: the first %d bytes alone are accepted", name, n)
			}
		}
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		raw []byte
		fd  int // that must be closed
	}{
		"unknown opcode":         {encode(1, 3, 1, nil), -1},
		"stray bytes":            {append(encode(1, opClose, 1, nil), 0), -1},
		"volume key without NUL": {encode(1, opOpen, 1, openPayload("erofs,x", "k", 9)), 9},
		"empty volume key":       {encode(1, opOpen, 1, openPayload("", "k", 9)), 9},
		"negative descriptor":    {encode(1, opOpen, 1, openPayload("erofs,x\x00", "k", -1)), -1},
		"keys longer than the message": {encode(1, opOpen, 1, func() []byte {
			p := openPayload("erofs,x\x00", "k", 9)
			binary.NativeEndian.PutUint32(p, math.MaxUint32)
			return p
		}()), 9},
		"read of nothing":        {encode(1, opRead, 1, readPayload(0, 0)), -1},
		"read at 2^63":           {encode(1, opRead, 1, readPayload(1<<63, 1)), -1},
		"read beyond 2^63":       {encode(1, opRead, 1, readPayload(math.MaxInt64-1, 2)), -1},
		"read without its range": {encode(1, opRead, 1, nil), -1},
	} {
		m, err := parseMessage(c.raw)
		if err == nil {
			t.Errorf("%s: accepted as %+v", name, m)
		}
		if m.fd != c.fd {
			t.Errorf("%s: descriptor %d to close, want %d", name, m.fd, c.fd)
		}
	}
	if _, err := parseMessage(nil); !errors.Is(err, errShort) {
		t.Errorf("nothing at all: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(encode(7, opOpen, 3, openPayload("erofs,pagein\x00", "image", 9)))
	f.Add(encode(8, opClose, 3, nil))
	f.Add(encode(0, opRead, 3, readPayload(4096, 131072)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		switch m.op {
		case opOpen:
			if m.fd < 0 || len(m.volume)+1+len(m.cookie) != len(b)-openSize {
				t.Errorf("OPEN %+v of %d bytes", m, len(b))
			}
		case opRead:
			if m.off < 0 || m.n <= 0 || m.off+m.n < m.off {
				t.Errorf("READ %+v", m)
			}
		case opClose:
		default:
			t.Errorf("opcode %d accepted", m.op)
		}
	})
}

func TestKeysThatWouldHarmTheKernelAreRefused(t *testing.T) {
	for key, ok := range map[string]bool{
		strings.Repeat("a", 64): true, strings.Repeat("a", 252): true, "erofs,x": true,
		"": false, strings.Repeat("a", 253): false, "a/b": false, "a b": false, "a\n": false, "ä": false, "\x7f": false, "a\x00": false,
	} {
		if err := checkKey(key); (err == nil) != ok {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestConfigurationsThatTheDeviceCannotCarryAreRefused(t *testing.T) {
	good := Config{Dir: "/var/lib/pagein", Tag: "pagein", Domain: "pagein"}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"relative directory":      func(c *Config) { c.Dir = "cache" },
		"no directory":            func(c *Config) { c.Dir = "" },
		"line break in path":      func(c *Config) { c.Dir = "/a\nculled" },
		"blank in tag":            func(c *Config) { c.Tag = "a b" },
		"slash in domain":         func(c *Config) { c.Domain = "a/b" },
		"comma in domain":         func(c *Config) { c.Domain = "a,b" },
		"domain of 201 bytes":     func(c *Config) { c.Domain = strings.Repeat("a", 201) },
		"directory of 5000 bytes": func(c *Config) { c.Dir = "/" + strings.Repeat("a", 5000) },
	} {
		c := good
		change(&c)
		if c.validate() == nil {
			t.Errorf("%s is accepted", name)
		}
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "start cachefiles transport") {
			t.Errorf("%s: New says %v", name, err)
		}
	}
}
