package convert

import "io"

const (
	aheadBuffers = 8
	aheadBytes   = 256 << 10
)

// ahead reads from a slow reader in a goroutine of its own, so that decompressing a layer and digesting its files go on at the same time.
type ahead struct {
	full    chan chunk
	free    chan []byte
	quit    chan struct{}
	done    chan struct{}
	current []byte // what Read has not given out
	buf     []byte // the buffer that current is in
	err     error
}

type chunk struct {
	b   []byte
	err error
}

// newAhead starts reading r. Stop must be called.
func newAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan chunk, aheadBuffers), free: make(chan []byte, aheadBuffers), quit: make(chan struct{}), done: make(chan struct{})}
	for range aheadBuffers {
		a.free <- make([]byte, aheadBytes)
	}
	go a.run(r)
	return a
}

func (a *ahead) run(r io.Reader) {
	defer close(a.done)
	for {
		select {
		case <-a.quit:
			return
		case b := <-a.free:
			n, err := 0, error(nil)
			for n < len(b) && err == nil {
				var more int
				more, err = r.Read(b[n:])
				n += more
			}
			a.full <- chunk{b[:n], err} // has room for all buffers
			if err != nil {
				return
			}
		}
	}
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.current) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.buf != nil {
			a.free <- a.buf
		}
		c := <-a.full
		a.current, a.buf, a.err = c.b, c.b[:cap(c.b)], c.err
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// stop ends the goroutine and returns when it no longer uses the reader.
func (a *ahead) stop() {
	close(a.quit)
	<-a.done
}
