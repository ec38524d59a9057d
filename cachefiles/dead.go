package cachefiles

import (
	"errors"
	"fmt"
)

// ErrDead is returned by [Transport.Attach] while images are attached whose cache the kernel has given up.
var ErrDead = errors.New("the kernel has given the cache up")

const deadAdvice = "unmount all images of transport cachefiles, then mount them again"

// fail notes that the cache is dead, as it is after an I/O error of its file system. Its mounts stay broken whoever has the device, so a daemon that ended
// would only leave its successor to end too. The device is let go with the last image.
func (t *Transport) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead != nil {
		return
	}
	t.dead = err
	t.cfg.Log.Error(ErrDead.Error()+": "+deadAdvice, "dir", t.cfg.Dir, "err", err)
	if len(t.metas) == 0 && t.session != nil {
		t.session.cancel()
	}
}

// letGo closes the device of a dead cache that no image is attached to and no session serves, here and at the holder, so that it can be opened anew.
func (t *Transport) letGo() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead == nil || t.dev == nil || t.session != nil || len(t.metas) > 0 {
		return
	}
	t.closeObjects()
	err := t.dev.close()
	t.dev = nil
	if t.cfg.Holder != nil {
		err = errors.Join(err, t.cfg.Holder.Release(HeldName))
	}
	if err != nil {
		t.cfg.Log.Warn("dead cache is not cleanly let go", "dir", t.cfg.Dir, "err", err)
		return
	}
	t.cfg.Log.Info("dead cache is let go; the next mount makes a new one", "dir", t.cfg.Dir)
}

// revive makes sure that the cache is alive, making a new one if a dead one was let go. The caller holds t.mu.
func (t *Transport) revive() error {
	switch {
	case t.dead == nil:
		return nil
	case t.dev != nil:
		return fmt.Errorf("%w (%w): %s", ErrDead, t.dead, deadAdvice)
	}
	dev, err := t.bind()
	if err != nil {
		return err
	}
	t.dev, t.dead, t.adopted = dev, nil, false
	select {
	case t.revived <- struct{}{}:
	default: // Serve has not seen the last one yet, and looks for a device when it does
	}
	return nil
}
