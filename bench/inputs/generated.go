package inputs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pagein/pagein/internal/cache"
)

// ImageA returns an OCI layout with the image that all conversions are compared on: [Debian], a file of 500,000,000 random bytes, and 20,000
// files of 4 to 16 KiB, half of which compresses, in a layer each.
func ImageA(ctx context.Context, log func(format string, args ...any)) (string, error) {
	debian, err := Debian(ctx, log)
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir(kind)
	if err != nil {
		return "", err
	}
	path, err := cache.Get(ctx, dir, "image-a-1", func(work string) error {
		log("inputs: compressing image A")
		size, err := WriteImage(ctx, work, v1.ImageConfig{Cmd: []string{"/bin/bash"}}, Tar(debian),
			Generated("random", Files{Seed: 1, Count: 1, MinSize: 500_000_000, MaxSize: 500_000_000}),
			Generated("small", Files{Seed: 2, Count: 20_000, MinSize: 4 << 10, MaxSize: 16 << 10, Text: 0.5}))
		log("inputs: image A has %.1f MB of layers", float64(size)/1e6)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make image A: %w", err)
	}
	return path, nil
}

// Files describes made-up files, a hundred to a directory.
type Files struct {
	Seed             byte
	Count            int
	MinSize, MaxSize int     // bytes, equally distributed
	Text             float64 // the part of each file that compresses well
}

// Generated is a layer of made-up files below the directory top.
func Generated(top string, f Files) Layer {
	return func(ctx context.Context, w io.Writer) error {
		t := tar.NewWriter(w)
		source := rand.NewChaCha8([32]byte{f.Seed})
		r := rand.New(source)
		modified := time.Unix(1_700_000_000, 0)
		buf := make([]byte, 1<<20)
		for i := range f.Count {
			if i%100 == 0 {
				err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("%s/%04d/", top, i/100), Mode: 0o755, ModTime: modified})
				if err := errors.Join(ctx.Err(), err); err != nil {
					return err
				}
			}
			size := f.MinSize + r.IntN(f.MaxSize-f.MinSize+1)
			header := &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s/%04d/file-%06d", top, i/100, i), Mode: 0o644, ModTime: modified, Size: int64(size)}
			if err := t.WriteHeader(header); err != nil {
				return err
			}
			for size > 0 {
				piece := buf[:min(size, len(buf))]
				noise := len(piece) - int(float64(len(piece))*f.Text)
				source.Read(piece[:noise])
				text(piece[noise:], r)
				if _, err := t.Write(piece); err != nil {
					return err
				}
				size -= len(piece)
			}
		}
		return t.Close()
	}
}

// words are what text is made of.
var words = [...]string{"page ", "frame ", "blob ", "image ", "layer ", "reader ", "kernel ", "mount ", "cache ", "digest ", "return ", "error ", "(size) ", "0x1f ", "if err\n", "}\n"}

// text fills b with words in random order, which gzip shortens to a quarter.
func text(b []byte, r *rand.Rand) {
	for len(b) > 0 {
		b = b[copy(b, words[r.IntN(len(words))]):]
	}
}
