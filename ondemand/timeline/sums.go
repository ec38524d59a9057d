package timeline

import "time"

const (
	// steps is how many points a curve has at most. When time goes on beyond them, two become one.
	steps = 256
	// firstStep is how long a step lasts at first.
	firstStep = 10 * time.Millisecond
)

// sums are bytes over time, for each reason by its number.
type sums struct {
	step  time.Duration // 0 before anything was added
	bytes [maxWords + 1]*[steps]int64
	used  int // steps that were reached
}

func (s *sums) width() time.Duration { return max(s.step, firstStep) }

func (s *sums) add(at time.Duration, reason int, bytes int64) {
	s.step = s.width()
	for at/s.step >= steps {
		s.halve()
	}
	k := int(at / s.step)
	s.used = max(s.used, k+1)
	if s.bytes[reason] == nil {
		s.bytes[reason] = new([steps]int64)
	}
	s.bytes[reason][k] += bytes
}

// halve has each step last twice as long.
func (s *sums) halve() {
	s.step *= 2
	s.used = (s.used + 1) / 2
	for _, row := range s.bytes {
		if row == nil {
			continue
		}
		for k := range steps / 2 {
			row[k] = row[2*k] + row[2*k+1]
		}
		clear(row[steps/2:])
	}
}

// curve returns the bytes until the end of each step, nil if there were none.
func (s *sums) curve(reason int) []int64 {
	row := s.bytes[reason]
	if row == nil {
		return nil
	}
	sum, curve := int64(0), make([]int64, s.used)
	for k := range curve {
		sum += row[k]
		curve[k] = sum
	}
	return curve
}
