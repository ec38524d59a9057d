package backend

import (
	"log/slog"
	"slices"
)

// Places is an object that is read as one that [First] returns, from places that may come and go while it is read: several users of the same bytes each bring a place that they
// trust to have them. Its methods may be called concurrently.
type Places struct{ firstObject }

// NewPlaces returns an object that is read from o, until there are others. See Add for key.
func NewPlaces(log *slog.Logger, key string, o Object) *Places {
	return &Places{firstObject{log: log, places: []*place{{Object: o, key: key, users: 1}}}}
}

// Add has the object read from o too, which comes after those that there are. Places with the same key are the same place, which counts its users. All must have the same size.
func (p *Places) Add(key string, o Object) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.IndexFunc(p.places, func(at *place) bool { return at.key == key }); i >= 0 {
		p.places[i].users++
		return
	}
	p.places = append(p.places, &place{Object: o, key: key, users: 1})
}

// Drop takes back an Add, or NewPlaces, with that key. Requests under way go on. The last place stays.
func (p *Places) Drop(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places = slices.DeleteFunc(p.places, func(at *place) bool {
		if at.key != key {
			return false
		}
		at.users--
		return at.users == 0 && len(p.places) > 1
	})
}
