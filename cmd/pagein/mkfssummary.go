package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pagein/pagein/mkfs"
)

func formatUUID(u [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// mkfsSummary is what --json prints. Sizes are in bytes.
type mkfsSummary struct {
	File      string  `json:"file"`
	Size      int64   `json:"size"`
	MetaBytes int64   `json:"metaBytes"`
	Inodes    uint64  `json:"inodes"`
	UUID      string  `json:"uuid"`
	Files     int64   `json:"files"`     // regular files with data, hard links once
	DataBytes int64   `json:"dataBytes"` // their data, holes left out
	Shared    int64   `json:"shared"`    // of these, what another file holds already
	Inlined   int64   `json:"inlined"`   // of these, what lies in the metadata
	BlobDev   string  `json:"blobdev,omitempty"`
	BlobTag   string  `json:"blobTag,omitempty"`
	BlobSize  int64   `json:"blobSize,omitempty"`
	Seconds   float64 `json:"seconds"`
}

// print says what was made.
func (m *mkfsRun) print(s mkfs.ImageStats, took time.Duration) error {
	out, file := m.c.App.Writer, m.operands[0]
	if file == stdio {
		out = m.c.App.ErrWriter
	}
	if m.json {
		return writeJSON(out, mkfsSummary{
			File: file, Size: s.Image.Size, MetaBytes: s.Image.MetaBytes, Inodes: s.Image.Inodes, UUID: formatUUID(s.UUID),
			Files: s.Data.Files, DataBytes: s.Data.Bytes, Shared: s.Data.Shared, Inlined: s.Data.Inlined,
			BlobDev: m.image.BlobDev, BlobTag: s.BlobDev, BlobSize: s.BlobSize, Seconds: took.Seconds(),
		})
	}
	if m.quiet {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s, %s inodes, %s of metadata, %s of data (%s shared) in %s\n", file,
		humanize.IBytes(uint64(s.Image.Size+s.BlobSize)), humanize.Comma(int64(s.Image.Inodes)), humanize.IBytes(uint64(s.Image.MetaBytes)),
		humanize.IBytes(uint64(s.Data.Bytes)), humanize.IBytes(uint64(s.Data.Shared)), took.Round(time.Millisecond))
	if err == nil && s.BlobDev != "" {
		_, err = fmt.Fprintf(out, "%s: %s, sha256 %s\n", m.image.BlobDev, humanize.IBytes(uint64(s.BlobSize)), s.BlobDev)
	}
	return err
}
