package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

// fault is a way in which the registry does its work badly.
type fault string

const (
	healthy fault = ""
	outage  fault = "outage"      // 503
	missing fault = "missing"     // 404
	corrupt fault = "corrupt"     // a byte of what it sends is wrong
	cut     fault = "cut"         // it hangs up in the middle
	stall   fault = "stall"       // it stops in the middle, and does not hang up
	slow    fault = "slow"        // each answer takes a while
	shifted fault = "other range" // it sends other bytes than those asked for, and says so
)

// faults are all that there are, in the order in which a schedule numbers them.
var faults = []fault{outage, missing, corrupt, cut, stall, slow, shifted}

// final reports whether readers may get an error at once, however long they would wait: bytes that are corrupt or not there are not waited for.
func (f fault) final() bool { return f == missing || f == corrupt || f == shifted }

// server is a registry that can be told to do badly.
type server struct {
	*httptest.Server
	real http.Handler

	mu     sync.Mutex
	fault  fault
	change chan struct{} // closed when the fault ends
	count  map[fault]int // of answers that were spoilt
}

func newServer() *server {
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s := &server{real: registry.New(registry.Logger(quiet)), change: make(chan struct{}), count: make(map[fault]int)}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = quiet // of what it is made to do
	s.Start()
	return s
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

// set replaces the fault and lets go of those who were stalled by the old one.
func (s *server) set(f fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	close(s.change)
	s.change = make(chan struct{})
}

// spoilt counts the answers that were.
func (s *server) spoilt() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.count {
		n += c
	}
	return n
}

// latency is that of ranges, which keeps images incomplete for a while.
const latency = 15 * time.Millisecond

// ServeHTTP answers as the registry would, or badly.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f, change := s.fault, s.change
	if f != healthy {
		s.count[f]++
	}
	s.mu.Unlock()
	spoiler := &spoiler{ResponseWriter: w, fault: f}
	if r.Header.Get("Range") != "" {
		time.Sleep(latency)
	}
	switch f {
	case healthy:
	case outage:
		http.Error(w, "closed for a while", http.StatusServiceUnavailable)
		return
	case missing:
		http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN"}]}`, http.StatusNotFound)
		return
	case slow:
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond) // what happens is not what is scheduled
	case shifted:
		var from, to int64
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n == 2 && from > 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from-1, to-1))
		}
	case stall:
		spoiler.wait, spoiler.gone = change, r.Context().Done()
	case corrupt, cut:
	}
	s.real.ServeHTTP(spoiler, r)
}

// spoiler spoils an answer's body.
type spoiler struct {
	http.ResponseWriter
	fault      fault
	sent       int
	wait, gone <-chan struct{}
}

// hangUp sends the last bytes that the client gets.
func (s *spoiler) hangUp(last []byte) (int, error) {
	n, err := s.ResponseWriter.Write(last)
	c := http.NewResponseController(s.ResponseWriter)
	if err = errors.Join(err, c.Flush()); err != nil {
		return n, err
	}
	conn, _, err := c.Hijack()
	if err == nil {
		err = errors.Join(io.ErrUnexpectedEOF, conn.Close())
	}
	return n, err
}

// Write is that of http.ResponseWriter.
func (s *spoiler) Write(p []byte) (int, error) {
	defer func() { s.sent += len(p) }()
	half := len(p) / 2
	switch {
	case s.fault == corrupt && len(p) > 0:
		q := append([]byte(nil), p...)
		q[rand.IntN(len(q))] ^= 1 << rand.IntN(8)
		return s.ResponseWriter.Write(q)
	case s.fault == cut && len(p) > 1:
		return s.hangUp(p[:half])
	case s.wait != nil && s.sent == 0 && len(p) > 1:
		n, err := s.ResponseWriter.Write(p[:half])
		if err != nil {
			return n, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		select {
		case <-s.wait:
		case <-s.gone:
		}
		m, err := s.ResponseWriter.Write(p[half:])
		return n + m, err
	}
	return s.ResponseWriter.Write(p)
}
