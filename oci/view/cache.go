package view

import (
	"container/list"
	"sync"
)

// frameKey names a frame of an artifact.
type frameKey struct{ blob, frame int }

// cache keeps the decoded frames that were used last, up to a number of bytes. A frame that is larger than that is not kept. Its methods may be called
// concurrently; what they pass on must not be changed.
type cache struct {
	mu     sync.Mutex
	room   int64 // bytes that may still be kept
	frames map[frameKey]*list.Element
	used   list.List // of cached, the last used first
}

type cached struct {
	key  frameKey
	data []byte
}

func newCache(size int64) *cache {
	return &cache{room: size, frames: make(map[frameKey]*list.Element)}
}

// get returns a frame, or nil if it is not there.
func (c *cache) get(key frameKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.frames[key]
	if e == nil {
		return nil
	}
	c.used.MoveToFront(e)
	return value(e).data
}

// put keeps a frame and lets go of others.
func (c *cache) put(key frameKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frames[key] != nil {
		return
	}
	c.frames[key] = c.used.PushFront(cached{key, data})
	c.room -= int64(len(data))
	for c.room < 0 {
		last := c.used.Back()
		old := value(last)
		c.used.Remove(last)
		delete(c.frames, old.key)
		c.room += int64(len(old.data))
	}
}

func value(e *list.Element) cached {
	v, _ := e.Value.(cached)
	return v
}
