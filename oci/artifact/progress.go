package artifact

import (
	"io"
)

// progress counts what a target has taken.
type progress struct {
	report      func(done, total int64) // or nil
	done, total int64                   // bytes
}

// reach says that everything up to a count is done, however little of it had to be sent.
func (p *progress) reach(done int64) {
	p.done = done
	if p.report != nil {
		p.report(p.done, p.total)
	}
}

// count counts what is read of r. Targets may read from another goroutine, but not once they have returned, nor from two at a time.
func (p *progress) count(r io.Reader) io.Reader { return &countingReader{r: r, p: p} }

type countingReader struct {
	r io.Reader
	p *progress
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.reach(c.p.done + int64(n))
	return n, err
}
