package keeper

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrAbsent means that no keeper lives at the socket.
var ErrAbsent = errors.New("no keeper is there")

// Options say where the keeper is and how to start one.
type Options struct {
	Socket string // path of the keeper's socket
	Floor  int    // every descriptor that the client receives or keeps for itself is moved to a number of at least this
	Binary string // program to start when no keeper lives; "" = do not start one
	Log    string // file that a started keeper appends its messages to; "" = nowhere

	// Second is one more holder, the service manager's store; nil = there is none. What only the keeper has counts as held: trouble with Second is told to Trouble, which
	// must be set, and otherwise ignored.
	Second  *Notifier
	Trouble func(error)
	// Inherited are descriptors that Second gave back, at floor or above; they now belong to the client. The keeper gets what it has not.
	Inherited map[string]int
}

// Client is a daemon's side of its keeper: attached from [Start] until Close. Its methods may be called concurrently.
//
// Hold leaves the descriptor with the caller, who keeps it open until Release: should the keeper die, it is handed to the next one.
type Client struct {
	opt      Options
	notifier *Notifier

	mu       sync.Mutex
	held     map[string]int  // what the keeper should hold: the caller's own descriptors
	taken    map[string]int  // received and not yet asked for with Take: owned by the client
	shared   map[string]bool // names that the second holder has, and whether what it has is what the keeper has
	lifeline *os.File        // nil once closed
	lost     chan struct{}   // closed by the watcher when the keeper is gone
	closed   bool
}

// Start attaches to the keeper at opt.Socket, or starts opt.Binary as one, detached from this process, and attaches to that. Several
// processes may do so at the same time; one keeper results.
func Start(ctx context.Context, opt Options) (*Client, error) {
	c := &Client{opt: opt, notifier: &Notifier{socket: opt.Socket}, held: map[string]int{}, taken: map[string]int{}, shared: map[string]bool{}}
	l, fds, err := establish(ctx, opt)
	if err != nil {
		closeAll(opt.Inherited)
		return nil, err
	}
	c.taken = fds
	c.watch(l)
	if err := c.inherit(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Take hands over the descriptors that the keeper held when this client attached, by name. The caller owns them; the keeper goes on holding
// its own duplicates until Release. A second call returns nothing.
func (c *Client) Take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	fds := c.taken
	for name, fd := range fds {
		if _, newer := c.held[name]; !newer {
			c.held[name] = fd
		}
	}
	c.taken = map[string]int{}
	return fds
}

// Hold gives the keeper a duplicate of fd under name and returns when it has it.
func (c *Client) Hold(name string, fd int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.notifier.Hold(name, fd); err != nil {
		return err
	}
	c.held[name] = fd
	c.share(name, fd)
	return nil
}

// Release makes the keeper close what it holds under name. The caller may close its own descriptor afterwards, also if an error says that
// the keeper could not be reached: a new one will not be given it.
func (c *Client) Release(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.held, name)
	if fd, ok := c.taken[name]; ok {
		unix.Close(fd)
		delete(c.taken, name)
	}
	c.unshare(name)
	return c.notifier.Release(name)
}

// Lost returns a channel that is closed when the keeper dies. From then on, whatever depends on held descriptors dies with this process;
// call Restore at once. Restore makes a new channel.
func (c *Client) Lost() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// Restore attaches to another keeper, starting it if the options name a binary, and gives it everything that the lost one held.
func (c *Client) Restore(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errors.New("restore keeper: the client is closed")
	}
	select {
	case <-c.lost:
	default:
		return nil // it lives
	}
	l, fds, err := establish(ctx, c.opt)
	if err != nil {
		return fmt.Errorf("restore keeper: %w", err)
	}
	for _, fd := range fds { // held by a keeper that somebody else restored: ours are given again below
		unix.Close(fd)
	}
	give := map[string]int{}
	for _, from := range []map[string]int{c.taken, c.held} {
		for name, fd := range from {
			give[name] = fd
		}
	}
	for _, name := range handover(give) {
		if err := c.notifier.Hold(name, give[name]); err != nil {
			unix.Close(l)
			return fmt.Errorf("restore keeper: %w", err)
		}
	}
	c.watch(l)
	return nil
}

// handover puts names in the order in which a new keeper is to get them: should this process die in between, the keeper must not have the instance that says
// what is mounted without the rest.
func handover(give map[string]int) []string {
	names := slices.Sorted(maps.Keys(give))
	if i := slices.Index(names, MountsName); i >= 0 {
		names = append(slices.Delete(names, i, i+1), MountsName)
	}
	return names
}

// Close detaches. What the keeper holds, it goes on holding for the next daemon. Descriptors that Take was not called for are closed.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for _, fd := range c.taken {
		unix.Close(fd)
	}
	c.taken = nil
	err := c.lifeline.Close()
	<-c.lost // the watcher has ended
	return err
}

// watch makes fd the lifeline and closes a new lost channel when it ends. The caller holds mu or is the only one to know c.
func (c *Client) watch(fd int) {
	if c.lifeline != nil {
		c.lifeline.Close()
	}
	lifeline := os.NewFile(uintptr(fd), "keeper") // non-blocking: Close ends a Read
	lost := make(chan struct{})
	c.lifeline, c.lost = lifeline, lost
	go func() {
		defer close(lost)
		buf := make([]byte, 1)
		for {
			// The keeper has nothing more to say; a stray packet is no end.
			if n, err := lifeline.Read(buf); err != nil || n == 0 {
				return
			}
		}
	}()
}

// establish attaches to a keeper, starting one if need be and allowed, and returns the lifeline and what was held.
func establish(ctx context.Context, opt Options) (int, map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	for {
		l, fds, err := attach(opt)
		if err == nil {
			return l, fds, nil
		}
		err = fmt.Errorf("attach to the keeper at %s: %w", opt.Socket, err)
		if !errors.Is(err, ErrAbsent) || opt.Binary == "" {
			return -1, nil, err
		}
		// ErrTaken: somebody else's keeper is about to answer, or one is about to end.
		if startErr := spawn(ctx, opt); startErr != nil && !errors.Is(startErr, ErrTaken) {
			return -1, nil, startErr
		} else if startErr != nil {
			err = startErr
		}
		select {
		case <-ctx.Done():
			return -1, nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
