package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pagein/pagein/node/control"
	"github.com/pagein/pagein/oci/artifact"
	"github.com/pagein/pagein/oci/optimize"
	"github.com/pagein/pagein/oci/view"
	"github.com/pagein/pagein/ondemand/timeline"
	"github.com/pagein/pagein/profile"
)

// misses makes a profile of what the kernel has asked pageind for since the recording began: of the image that was asked for, else of that with the most questions. The
// words say how much it is.
func (t *tracing) misses(ctx context.Context, since time.Time) (p *profile.Profile, image control.Image, words string, err error) {
	images := t.mounts.status.Images
	if what := cmp.Or(t.image, t.container); what != "" {
		if image, err = t.mounts.find(what); err != nil {
			return nil, image, "", err
		}
		images = []control.Image{image}
	}
	var most control.Timeline
	var asked []control.Touch
	for _, i := range images {
		happened, err := t.mounts.client.Timeline(ctx, i.ID, 0)
		if control.ClassOf(err) == control.NotFound {
			continue // it is lost, or not mounted any more
		}
		if err != nil {
			return nil, image, "", err
		}
		if touches := touchesSince(happened.Snapshot, since); len(touches) > len(asked) {
			image, most, asked = i, happened, touches
		}
	}
	if asked == nil {
		return nil, image, "", errors.New("the kernel asked pageind for nothing: what was read was cached, or is of no image that pageind serves")
	}
	tree, err := readTree(ctx, most.Meta)
	if err != nil {
		return nil, image, "", fmt.Errorf("name what was read: %w", err)
	}
	p = tree.Profile(asked)
	files, bytes := p.Totals()
	words = fmt.Sprintf("%d files, %d KiB asked for", files, bytes>>10)
	if most.Missed > 0 {
		words += fmt.Sprintf(", %d older events are not kept", most.Missed)
	}
	return p, image, words, nil
}

// touchesSince are the questions of the kernel since a moment, which their times count from.
func touchesSince(s timeline.Snapshot, since time.Time) (touches []control.Touch) {
	for _, e := range s.Events {
		if at := s.Began.Add(e.At).Sub(since); e.Kind != timeline.Fetch && at >= 0 {
			touches = append(touches, control.Touch{Blob: e.Blob, Off: e.Off, Len: e.Len, At: at})
		}
	}
	slices.SortStableFunc(touches, func(a, b control.Touch) int { return cmp.Compare(a.At, b.At) })
	return touches
}

// identify gives a profile the digests by which it finds what was moved in other versions of the image, if the artifact can be had.
func (t *tracing) identify(ctx context.Context, image control.Image, p *profile.Profile) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := look(t.c, func(l *looker) error {
		ref, err := l.parse(image.Ref)
		if err != nil {
			return err
		}
		place, a, err := artifact.Find(ctx, l.client, ref, l.platform)
		if err != nil {
			return err
		}
		if a.MetaDigest.Encoded() != image.ID {
			return fmt.Errorf("%s is another artifact now", image.Ref)
		}
		if a, err = converted(ctx, place, ref, a); err != nil {
			return err
		}
		v, err := l.keep(view.Open(ctx, place, a, l.options()))
		if err != nil {
			return err
		}
		return optimize.Identify(ctx, v, p)
	})
	if err != nil {
		t.say("the profile has no digests, so in other versions of the image it finds nothing that was moved (pagein profile apply -o adds them): %v", err)
	}
}
