package snapshotter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/opencontainers/go-digest"

	"github.com/pagein/pagein/internal/atomicfile"
)

// noteName is the file in a snapshot's directory that says that its layer was not fetched when containerd asked for it.
const noteName = "lazy.json"

// note says what stands for a layer that was not fetched when containerd asked for it. Labels are no place for it: clients may change them.
type note struct {
	Artifact string        `json:"artifact"`       // reference by digest
	Image    string        `json:"image"`          // reference by digest of the manifest that lists the layer, for who needs the layer by itself
	Name     string        `json:"name,omitempty"` // what containerd called the image whose pull it was, for people
	Chain    digest.Digest `json:"chain"`          // the layer's chain ID
	Top      bool          `json:"top"`            // the artifact is mounted on this layer's directory, and is all that is below

	Unpacked *snapshots.Usage `json:"unpacked,omitempty"` // what it takes since it was fetched after all, which made it an ordinary layer
}

// lazy returns the note of a snapshot whose layer is not fetched, nil if it is an ordinary one.
func (s *Snapshotter) lazy(id string) (*note, error) {
	n, err := s.readNote(id)
	if err != nil || n == nil || n.Unpacked != nil {
		return nil, err
	}
	return n, nil
}

// readNote returns the note of a snapshot, nil if it never had one.
func (s *Snapshotter) readNote(id string) (*note, error) {
	b, err := os.ReadFile(filepath.Join(s.dir(id), noteName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	n := new(note)
	if err == nil {
		err = json.Unmarshal(b, n)
	}
	if err != nil {
		return nil, fmt.Errorf("read what snapshot %s stands for: %w", id, err)
	}
	return n, nil
}

// writeNote makes the note durable.
func (s *Snapshotter) writeNote(id string, n note) error {
	if err := s.tryWriteNote(id, n); err != nil {
		return fmt.Errorf("note what snapshot %s stands for: %w", id, err)
	}
	return nil
}

func (s *Snapshotter) tryWriteNote(id string, n note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	f, err := atomicfile.Create(filepath.Join(s.dir(id), noteName), 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return s.syncDir(id)
}
