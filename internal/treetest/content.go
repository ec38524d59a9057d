package treetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// pieceSize is how much of a file is compared in one go. It divides large files so that random order means random inside files, too.
const pieceSize = 1 << 20

// piece is a range of one file's content.
type piece struct {
	path   string
	off    int64
	length int64
}

func appendPieces(pieces []piece, path string, size int64) []piece {
	for off := int64(0); off < size; off += pieceSize {
		pieces = append(pieces, piece{path, off, min(pieceSize, size-off)})
	}
	return pieces
}

// diffContents compares pieces of files, in parallel and in random order if the options say so.
func diffContents(want, got string, pieces []piece, o Options) ([]string, error) {
	if o.Shuffle != 0 {
		rand.New(rand.NewSource(o.Shuffle)).Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
	}
	var (
		mu    sync.Mutex
		diffs []string
		first error
		wg    sync.WaitGroup
	)
	jobs := make(chan piece)
	for range max(o.Readers, 1) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			a, b := make([]byte, pieceSize), make([]byte, pieceSize)
			for p := range jobs {
				err := comparePiece(want, got, p, a, b)
				mu.Lock()
				if errors.Is(err, errDiffers) {
					diffs = append(diffs, err.Error())
				} else if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		}()
	}
	for _, p := range pieces {
		jobs <- p
	}
	close(jobs)
	wg.Wait()
	return diffs, first
}

// comparePiece reads a piece on both sides; holes in the wanted file are passed over there, not on the other side.
func comparePiece(want, got string, p piece, a, b []byte) error {
	x, err := readPiece(filepath.Join(want, p.path), p, a)
	if err != nil {
		return err
	}
	y, err := readPiece(filepath.Join(got, p.path), p, b)
	if err != nil {
		return err
	}
	if bytes.Equal(x, y) {
		return nil
	}
	at := 0
	for x[at] == y[at] {
		at++
	}
	return fmt.Errorf("%q: content %w at byte %d: %#x, want %#x", p.path, errDiffers, p.off+int64(at), y[at], x[at])
}

func readPiece(path string, p piece, buf []byte) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := f.ReadAt(buf[:p.length], p.off)
	if int64(n) < p.length {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %d bytes at %d of %s: %w", p.length, p.off, path, err)
	}
	return buf[:n], nil
}
