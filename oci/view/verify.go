package view

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Part says what of an artifact a [Problem] is about.
type Part string

const (
	PartMeta   Part = "meta"   // the metadata image as a layer: its bytes and digests, and whether it opens
	PartMap    Part = "map"    // a blob map
	PartIndex  Part = "index"  // the index of a blob, which only converters read
	PartObject Part = "object" // a source object as a whole
	PartFrame  Part = "frame"  // one frame of a blob
)

// Problem is one thing that is wrong.
type Problem struct {
	Part   Part
	Blob   int    // number of the blob, from 0: PartMap, PartIndex, PartFrame
	Frame  int    // PartFrame
	Object string // digest: PartObject
	Err    error
}

// VerifyOptions of [View.Verify]. Both functions may be nil; neither is called concurrently.
type VerifyOptions struct {
	Problem  func(Problem)           // told each problem, in no certain order
	Progress func(done, total int64) // told now and then how many bytes of the source objects were read
}

// Verified says what was verified. Bytes are those of whole things, each counted once.
type Verified struct {
	Objects     int   // source objects
	ObjectBytes int64 // of those
	UnusedBytes int64 // of those, bytes that no frame of this artifact uses
	Frames      int
	FrameBytes  int64 // decoded
}

// Verify reads everything once: the metadata image, all maps and indexes, all source objects. It compares the digest of each, and decodes and compares every frame, on all
// processors and with some 64 MiB of memory beside a few bytes for each frame of an object. What is wrong does not stop it; only the end of the view's context
// is an error. The structure of the metadata image is not its business: see package erofs/check.
func (v *View) Verify(o VerifyOptions) (Verified, error) {
	r := &verification{v: v, o: o}
	if _, err := v.Tree(); err != nil {
		r.problem(Problem{Part: PartMeta, Err: err})
	}
	objects := r.collect()
	for _, obj := range objects {
		r.total += obj.desc.Size
	}
	for _, obj := range objects {
		if err := r.object(obj); err != nil {
			r.problem(Problem{Part: PartObject, Object: obj.desc.Digest.String(), Err: err})
		}
		if v.ctx.Err() != nil {
			return r.result, fmt.Errorf("verify %s: %w", v.Artifact.Name, context.Cause(v.ctx))
		}
	}
	return r.result, nil
}

// verification is a Verify under way.
type verification struct {
	v *View
	o VerifyOptions

	mu          sync.Mutex
	result      Verified
	done, total int64
}

func (r *verification) problem(p Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.o.Problem != nil && r.v.ctx.Err() == nil { // the end of everything is no problem of the artifact
		r.o.Problem(p)
	}
}

func (r *verification) read(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += int64(n)
	if r.o.Progress != nil {
		r.o.Progress(r.done, r.total)
	}
}

// sourceObject is a source object and what the artifact's maps cut from it.
type sourceObject struct {
	desc ocispec.Descriptor
	uses []use
}

// use is a map that names the object.
type use struct{ blob, source int }

// collect loads all maps and lists the objects in the order in which blobs name them. Blobs without a readable map are left out of uses.
func (r *verification) collect() []*sourceObject {
	var list []*sourceObject
	byDigest := map[digest.Digest]*sourceObject{}
	for i, b := range r.v.Artifact.Blobs {
		m, err := r.v.Map(i)
		if err != nil {
			r.problem(Problem{Part: PartMap, Blob: i, Err: err})
		} else if _, err := r.v.Artifact.FetchIndex(r.v.ctx, i, m); err != nil {
			r.problem(Problem{Part: PartIndex, Blob: i, Err: err})
		}
		for j, desc := range b.Sources {
			obj := byDigest[desc.Digest]
			if obj == nil {
				obj = &sourceObject{desc: desc}
				byDigest[desc.Digest] = obj
				list = append(list, obj)
			}
			if err == nil {
				obj.uses = append(obj.uses, use{i, j})
			}
		}
	}
	return list
}

// errDigest says that an object has other bytes than its digest promises.
var errDigest = errors.New("the bytes are not those of the digest")
