package keeper

import (
	"context"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"
)

// inherit takes over what the second holder gave back and the keeper does not have, because it died and was replaced, and gives it to the keeper. Where both have a
// name, the keeper's counts.
func (c *Client) inherit() error {
	inherited := maps.Clone(c.opt.Inherited)
	for _, name := range handover(inherited) {
		fd := inherited[name]
		if checkName(name) != nil || name == unnamed {
			unix.Close(fd)
			delete(inherited, name)
			continue
		}
		if _, both := c.taken[name]; both {
			unix.Close(fd)
			delete(inherited, name)
			c.shared[name] = false
			continue
		}
		if err := c.notifier.Hold(name, fd); err != nil {
			closeAll(inherited)
			return fmt.Errorf("give the keeper what the service manager kept: %w", err)
		}
		delete(inherited, name)
		c.taken[name] = fd
		c.shared[name] = true
	}
	return nil
}

// Share gives the second holder what it does not have yet, until ctx is done. It may take a while with many descriptors, and other calls may come in between.
func (c *Client) Share(ctx context.Context) {
	if c.opt.Second == nil {
		return
	}
	c.mu.Lock()
	names := handover(c.held)
	c.mu.Unlock()
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		if fd, ok := c.held[name]; ok && !c.shared[name] {
			c.share(name, fd)
		}
		c.mu.Unlock()
	}
}

// share gives the second holder, if there is one, a duplicate too. The caller holds mu.
func (c *Client) share(name string, fd int) {
	if c.opt.Second == nil {
		return
	}
	err := c.opt.Second.Hold(name, fd)
	if err != nil {
		c.opt.Trouble(err)
	}
	if _, had := c.shared[name]; had || err == nil {
		c.shared[name] = err == nil
	}
}

// unshare makes the second holder let go. The caller holds mu.
func (c *Client) unshare(name string) {
	if _, has := c.shared[name]; c.opt.Second == nil || !has {
		return
	}
	delete(c.shared, name)
	if err := c.opt.Second.Release(name); err != nil {
		c.opt.Trouble(err)
	}
}
