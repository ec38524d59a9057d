package snapshotter

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/pkg/snapshotters"
	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/artifact"
)

const (
	// decideTimeout bounds how long containerd waits before a layer is unpacked as usual.
	decideTimeout = 30 * time.Second
	// decisionAge is how long a decision holds at most, which is meant for the layers of one pull. That there is no artifact holds for as long after the last layer that it was asked for, but not
	// for a layer that it was asked for before: that is the next pull.
	decisionAge = time.Minute
	// maxLayers bounds of how many layers it is remembered. Images of Docker have 127 at most.
	maxLayers = 1024
	// maxDecisions bounds how many are remembered.
	maxDecisions = 1024
)

var (
	// errUnnamed says that containerd did not say of which image a layer is.
	errUnnamed = errors.New("containerd does not say which image it is")
	// errNotFor says that an artifact has nothing to do with a layer.
	errNotFor = errors.New("the artifact does not stand for it")
	// errSlow says that decideTimeout is over.
	errSlow = fmt.Errorf("whether it has an artifact could not be found out within %v", decideTimeout)
)

// candidate is where the artifact for an image is to be looked for.
type candidate struct {
	ref     oci.Ref       // by digest
	subject digest.Digest // the image's manifest, of which the artifact at ref must be; "" if ref is the artifact's own
	claimed bool          // where that is, the image itself says, and nobody else

	shown string // in place of all that, where it is not the question: what people know the image by
}

// candidateOf reads labels.
func candidateOf(labels map[string]string) (c candidate, err error) {
	var image oci.Ref
	name := labels[snapshotters.TargetRefLabel]
	if name != "" {
		if image, err = oci.ParseRef(name); err != nil || image.Kind != oci.Registry {
			return c, fmt.Errorf("image name %q is not one of a registry", name)
		}
	}
	if own := labels[artifact.Annotation]; own != "" {
		if c.ref, err = oci.ParseRef(own); err != nil {
			return c, err
		}
		if c.ref.Kind != oci.Registry || c.ref.Digest == "" {
			return c, fmt.Errorf("label %s: %q is not HOST/REPOSITORY@DIGEST", artifact.Annotation, own)
		}
		if name != "" { // an image that was copied still has the label of where it was
			c.ref.Host, c.ref.Repository = image.Host, image.Repository
		}
		c.claimed = name == ""
		c.ref.Tag = ""
		return c, nil
	}
	c.subject = digest.Digest(labels[snapshotters.TargetManifestDigestLabel])
	if name == "" || c.subject.Validate() != nil {
		return c, errUnnamed
	}
	c.ref = oci.Ref{Kind: oci.Registry, Host: image.Host, Repository: image.Repository, Digest: c.subject}
	return c, nil
}

// decide returns the artifact that stands for a layer, or nil if the layer is to be unpacked. What is decided for an image, and why, is said once.
func (s *Snapshotter) decide(ctx context.Context, target digest.Digest, labels map[string]string) *Found {
	c, err := candidateOf(labels)
	if errors.Is(err, errUnnamed) {
		s.log.Debug("layer is unpacked as usual", "layer", target, "reason", err)
		return nil
	}
	if err != nil {
		s.refuse(ctx, target, labels, err)
		return nil
	}
	d, isNew := s.images.of(ctx, c, target, func() decision { return s.find(ctx, c) })
	if isNew && d.err != nil {
		s.log.Info("image is unpacked as usual, and stays so until it is removed", "image", c.ref, "reason", d.err)
		s.unpacked.note(labels, d.err)
	}
	if d.err != nil {
		return nil
	}
	if !slices.Contains(d.found.Chains, target) {
		s.refuse(ctx, target, labels, fmt.Errorf("layer %s: %s: %w", target, d.found.Artifact, errNotFor))
		return nil
	}
	return d.found
}

// refuse says why layers of an image are unpacked, though an artifact was found or named: once for each pull, with the first of them.
func (s *Snapshotter) refuse(ctx context.Context, target digest.Digest, labels map[string]string, reason error) {
	name := shownName(labels)
	_, isNew := s.images.of(ctx, candidate{shown: name}, target, func() decision { return decision{err: reason} })
	if isNew {
		s.log.Warn("layers are unpacked as usual", "image", name, "reason", reason)
		s.unpacked.note(labels, reason)
	}
}

// find looks for a candidate's artifact.
func (s *Snapshotter) find(ctx context.Context, c candidate) decision {
	if err := s.trust.Repository(c.ref); err != nil {
		return decision{err: err}
	}
	// An image from anywhere could choose whatever answers on this machine, such as a cache that has everybody's repositories.
	if c.claimed && !s.trust.Names(c.ref) {
		return decision{err: fmt.Errorf("the image itself says that its artifact is at %s/%s, and containerd does not say where the image is from: name that repository in the configuration (repositories in [trust])",
			c.ref.Host, c.ref.Repository)}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, decideTimeout, errSlow)
	defer cancel()
	found, err := s.node.Find(ctx, c.ref, s.trust.Check)
	switch {
	case err != nil && errors.Is(context.Cause(ctx), errSlow):
		return decision{err: errSlow}
	case err != nil:
		return decision{err: err}
	case len(found.Chains) == 0:
		return decision{err: fmt.Errorf("%s does not say for which layers it stands: convert the image again", found.Artifact)}
	case c.subject != "" && found.Subject != c.subject:
		return decision{err: fmt.Errorf("%s belongs to %q, not to this image", found.Artifact, found.Subject)}
	}
	return decision{found: found}
}

// decision is an artifact, or why there is none.
type decision struct {
	found *Found
	err   error
	at    time.Time // when it was made

	// Of a pull without an artifact: the layers that it was asked for, and when it was last.
	layers map[digest.Digest]bool
	used   time.Time
}

// decisions remembers for a while what was decided.
type decisions struct {
	deciding locks // by the candidate

	mu   sync.Mutex
	made map[candidate]decision
}

func newDecisions() *decisions { return &decisions{made: make(map[candidate]decision)} }

// of returns what was decided for a candidate, of which a layer is asked for, or decides and reports that. Who asks while it is being decided waits for that. What ctx kept from being
// found out is not remembered.
func (d *decisions) of(ctx context.Context, c candidate, layer digest.Digest, decide func() decision) (made decision, isNew bool) {
	asked := time.Now()
	unlock, err := d.deciding.lock(ctx, c.ref.String()+" "+c.subject.String()+" "+c.shown)
	if err != nil {
		return decision{err: err}, false
	}
	defer unlock()
	if made, ok := d.remembered(c, layer, asked); ok {
		return made, false
	}
	made = decide()
	if ctx.Err() != nil {
		return made, false
	}
	made.at = time.Now()
	made.used, made.layers = made.at, map[digest.Digest]bool{layer: true}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.made) >= maxDecisions {
		clear(d.made)
	}
	d.made[c] = made
	return made, true
}

// forget is for an artifact whose image is removed: the next pull may find a newer one.
func (d *decisions) forget(artifact string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.made, func(_ candidate, made decision) bool { return made.found != nil && made.found.Artifact == artifact })
}

// remembered returns a decision that holds still for a layer that was asked for at a time.
func (d *decisions) remembered(c candidate, layer digest.Digest, asked time.Time) (made decision, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	made, ok = d.made[c]
	if !ok || time.Since(made.used) >= decisionAge {
		return decision{}, false
	}
	if made.err == nil {
		return made, true
	}
	// Each pull asks for a layer once: the image may have been converted since the one before. Who asked while it was decided knows no less than that.
	if made.layers[layer] && asked.After(made.at) || len(made.layers) >= maxLayers {
		return decision{}, false
	}
	made.layers[layer] = true
	made.used = time.Now() // a pull that takes long is not to wait, and be told, again and again
	d.made[c] = made
	return made, true
}
