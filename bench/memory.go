package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/pagein/pagein/bench/inputs"
)

// benchMemory converts a stream of 4 GiB in 100,000 files, in an image layer's order and without end in sight, and reports the highest resident size.
func benchMemory(ctx context.Context, b *bench) ([]result, error) {
	const count, total = 100_000, 4 << 30
	b.progress("memory: a tar of %d files, %d GiB, through pagein convert", count, total>>30)
	files := inputs.Files{Seed: 9, Count: count, MinSize: 0, MaxSize: 2 * total / count, Text: 0.75}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		writer.CloseWithError(inputs.Generated("many", files)(ctx, writer))
	}()
	var u usage
	made, err := b.convert(ctx, &u, reader, "tar:-")
	cancel()
	err = errors.Join(err, reader.Close())
	<-written
	if err != nil {
		return nil, err
	}
	return []result{atMost("convert peak memory, 4 GiB in 100,000 files", u.peakMiB, 128, "MiB",
		fmt.Sprintf("%.1f GB in %d files from a pipe, %.0f s, %.1f GB stored", float64(made.Data)/1e9, made.Files, u.seconds[0], float64(made.Stored)/1e9))}, nil
}
