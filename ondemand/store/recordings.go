package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// recordingsDir holds what is kept of how images were read: JSON, one file for each recording, named by the image's ID and when it began, which sorts by both. All of it may be deleted.
const recordingsDir = "recordings"

const (
	// maxRecordings bounds the recordings of one image, maxAllRecordings those of all.
	maxRecordings    = 8
	maxAllRecordings = 512
	// maxRecording bounds the bytes of one.
	maxRecording = 1 << 20
)

// SaveRecording keeps v as JSON, as a recording of an image that began at a time, and forgets older ones if there are too many. It is not worth a sync.
func (s *Store) SaveRecording(image string, began time.Time, v any) error {
	b, err := json.Marshal(v)
	if err == nil && len(b) > maxRecording {
		err = fmt.Errorf("it has %d bytes, at most %d are kept", len(b), maxRecording)
	}
	if err == nil {
		err = os.MkdirAll(s.path(recordingsDir), 0o700)
	}
	if err == nil {
		err = replace(s.path(recordingsDir, fmt.Sprintf("%s-%020d.json", image, began.UnixNano())), b, false)
	}
	if err == nil {
		err = s.pruneRecordings(image)
	}
	if err != nil {
		return fmt.Errorf("save a recording of image %s: %w", image, err)
	}
	return nil
}

// Recordings returns the recordings of an image, the oldest first; those that cannot be read are left out.
func (s *Store) Recordings(image string) ([]json.RawMessage, error) {
	files, err := s.recordings(image)
	if err != nil {
		return nil, fmt.Errorf("list recordings of image %s: %w", image, err)
	}
	var all []json.RawMessage
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && len(b) <= maxRecording && json.Valid(b) {
			all = append(all, b)
		}
	}
	return all, nil
}

// recordings lists the files of an image's recordings, or with "*" those of all, the oldest of each image first.
func (s *Store) recordings(image string) ([]string, error) {
	return filepath.Glob(s.path(recordingsDir, image+"-*.json"))
}

// pruneRecordings forgets the oldest recordings.
func (s *Store) pruneRecordings(image string) error {
	files, err := s.recordings(image)
	if err != nil {
		return err
	}
	all, err := s.recordings("*")
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(recordingTime(a), recordingTime(b)) })
	doomed := append(files[:max(len(files)-maxRecordings, 0)], all[:max(len(all)-maxAllRecordings, 0)]...)
	for _, f := range doomed {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// recordingTime is the part of a recording's name that says when it began.
func recordingTime(path string) string { return path[strings.LastIndexByte(path, '-')+1:] }
