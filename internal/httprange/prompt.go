package httprange

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Promptly has open ask for something that can also be had elsewhere: if there is no answer within the limit, it fails with [ErrStalled], so that there is time left to ask there.
// open's context ends with done, to be called after the answer is closed; done is nil when Promptly fails.
func Promptly[T io.Closer](ctx context.Context, limit time.Duration, open func(context.Context) (T, error)) (answer T, done func(), err error) {
	var none T
	asked, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(limit, cancel)
	answer, err = open(asked)
	late := !timer.Stop()
	if err == nil && late { // in the same moment
		_ = answer.Close()
	}
	switch {
	case late && ctx.Err() == nil:
		err = fmt.Errorf("%w for %s", ErrStalled, limit)
	case late:
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return none, nil, err
	}
	return answer, cancel, nil
}
