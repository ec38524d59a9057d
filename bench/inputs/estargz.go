package inputs

import (
	"context"
	"fmt"

	"github.com/pagein/pagein/bench/lab"
	"github.com/pagein/pagein/internal/cache"
)

// ImageAStargz returns an OCI layout with [ImageA] converted to eStargz, with nothing known of what will be read.
func ImageAStargz(ctx context.Context, log func(format string, args ...any)) (string, error) {
	source, err := ImageA(ctx, log)
	if err != nil {
		return "", err
	}
	peers, err := lab.Ours("bench-peers")
	if err != nil {
		return "", err
	}
	dir, err := cache.Dir(kind)
	if err != nil {
		return "", err
	}
	path, err := cache.Get(ctx, dir, "image-a-estargz-1", func(work string) error {
		log("inputs: converting image A to eStargz, which takes minutes")
		_, err := lab.Output(lab.Command(ctx, peers, "estargz", source, work))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("convert image A to eStargz: %w", err)
	}
	return path, nil
}
