package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"

	kgzip "github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// inflateImage inflates every layer in a goroutine of its own, which is all that gzip allows, and does nothing with the bytes. Each is
// checked against its CRC-32, as every gzip reader does.
func inflateImage(ctx context.Context, library, image string) error {
	inflate, known := map[string]func(io.Reader) (io.Reader, error){
		"std":       func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"klauspost": func(r io.Reader) (io.Reader, error) { return kgzip.NewReader(r) },
	}[library]
	if !known {
		return fmt.Errorf("library %q is unknown: std or klauspost", library)
	}
	l, err := openLayout(image)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, layer := range l.manifest.Layers {
		group.Go(func() error {
			file, err := os.Open(l.blob(layer.Digest))
			if err != nil {
				return err
			}
			defer file.Close()
			plain, err := inflate(bufio.NewReaderSize(file, 256<<10))
			if err != nil {
				return err
			}
			buf := make([]byte, 256<<10)
			for ctx.Err() == nil {
				_, err := plain.Read(buf)
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}
