package lab

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// maxRequests bounds how many requests a server remembers.
const maxRequests = 100_000

// Request is what a server was asked for.
type Request struct {
	Began, Ended time.Time // when it was read, and when all of the answer was handed to the kernel
	From         string    // the client's address: one for each connection
	Method, Path string
	Range        string // header, "" for none
	Status       int
	Bytes        int64 // of the answer, without its header
}

// String is a line of a log.
func (r Request) String() string {
	return fmt.Sprintf("%4d ms %s %s %s %s: %d, %d bytes", r.Ended.Sub(r.Began).Milliseconds(), r.From, r.Method, r.Path, r.Range, r.Status, r.Bytes)
}

// requests remembers what it handles. Its methods may be called concurrently.
type requests struct {
	handler http.Handler

	mu   sync.Mutex
	seen []Request
}

// ServeHTTP implements http.Handler.
func (q *requests) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := Request{Began: time.Now(), From: r.RemoteAddr, Method: r.Method, Path: r.URL.Path, Range: r.Header.Get("Range")}
	answer := &answer{ResponseWriter: w, status: http.StatusOK}
	q.handler.ServeHTTP(answer, r)
	seen.Ended, seen.Status, seen.Bytes = time.Now(), answer.status, answer.bytes
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.seen) < maxRequests {
		q.seen = append(q.seen, seen)
	}
}

// take returns what was handled since the last time, in the order in which it ended.
func (q *requests) take() []Request {
	q.mu.Lock()
	defer q.mu.Unlock()
	seen := q.seen
	q.seen = nil
	return seen
}

// answer notes what is answered.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom, so that files are sent as they are sent without this.
func (a *answer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(a.ResponseWriter, r)
	a.bytes += n
	return n, err
}
