package timeline

import "time"

const (
	// steps bounds in how many steps bytes are counted. A step in which none came is no step.
	steps = 256
	// firstStep is how long a step lasts at first. When there are too many, two become one, up to finestLater for the beginning, which are the first of them: a start shall be told apart
	// however long the image is read after it.
	firstStep   = 10 * time.Millisecond
	finestLater = 32 * firstStep
	beginning   = steps * 3 / 4
)

// Step is a time in which bytes came: from the first of them to the last.
type Step struct {
	From time.Duration `json:"from_ns"`
	To   time.Duration `json:"to_ns"`
}

// sums are bytes over time, for each reason by its number.
type sums struct {
	width time.Duration // of steps that begin now
	rows  []row         // in the order of time
}

type row struct {
	Step
	bytes [maxWords + 1]int64
}

func (s *sums) add(at time.Duration, reason int, bytes int64) {
	s.width = max(s.width, firstStep)
	if !s.goesOn(at) && len(s.rows) == steps {
		s.shrink()
	}
	if !s.goesOn(at) {
		s.rows = append(s.rows, row{Step: Step{at, at}})
	}
	last := &s.rows[len(s.rows)-1]
	last.To = max(last.To, at)
	last.bytes[reason] += bytes
}

// goesOn reports whether a time is in the last step, or before it as of two who come at once.
func (s *sums) goesOn(at time.Duration) bool {
	n := len(s.rows)
	return n > 0 && at/s.width <= s.rows[n-1].From/s.width
}

// shrink has steps last twice as long, until there is room for another.
func (s *sums) shrink() {
	for len(s.rows) == steps {
		from := 0
		if s.width >= finestLater {
			from = beginning
		}
		s.width *= 2
		kept := s.rows[:from+1]
		for _, r := range s.rows[from+1:] {
			last := &kept[len(kept)-1]
			if last.From/s.width != r.From/s.width {
				kept = append(kept, r)
				continue
			}
			last.To = r.To
			for i, n := range r.bytes {
				last.bytes[i] += n
			}
		}
		s.rows = kept
	}
}

// times are those of the steps.
func (s *sums) times() (all []Step) {
	for i := range s.rows {
		all = append(all, s.rows[i].Step)
	}
	return all
}

// curve returns the bytes until the end of each step, nil if there were none.
func (s *sums) curve(reason int) []int64 {
	sum, curve := int64(0), make([]int64, len(s.rows))
	for k := range curve {
		sum += s.rows[k].bytes[reason]
		curve[k] = sum
	}
	if sum == 0 {
		return nil
	}
	return curve
}
