package convert

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/mkfs"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2/content"
)

// takeTar takes a layer's plain tar.
type takeTar func(ctx context.Context, r io.Reader) error

// readLayer has take read a layer and checks that the tar in it is the one that the image's config promises. That proves every byte that is used; the digest of the
// compressed bytes is computed only to explain what went wrong.
func readLayer(ctx context.Context, take takeTar, src content.Fetcher, desc ocispec.Descriptor, diffID digest.Digest, count counter) error {
	body, err := src.Fetch(ctx, desc)
	if err != nil {
		return registry.Explain(err)
	}
	err = errors.Join(readTar(ctx, take, body, desc.Size, diffID, count), body.Close())
	if err == nil || ctx.Err() != nil {
		return err
	}
	if damage := diagnose(ctx, src, desc); damage != nil {
		return fmt.Errorf("%w (%w)", damage, err)
	}
	return err
}

func readTar(ctx context.Context, take takeTar, body io.Reader, size int64, diffID digest.Digest, count counter) error {
	packed := &io.LimitedReader{R: body, N: size + 1}
	plain, err := mkfs.Decompress(count.reader(packed))
	if err != nil {
		return err
	}
	verifier := diffID.Verifier()
	ahead := newAhead(io.TeeReader(plain, verifier))
	err = take(ctx, ahead)
	ahead.stop()
	_ = plain.Close() // only read
	if err == nil {
		_, err = io.Copy(io.Discard, packed)
	}
	switch {
	case err != nil:
		return fmt.Errorf("read layer: %w", err)
	case packed.N < 1:
		return fmt.Errorf("it has more than the %d bytes that the manifest promises", size)
	case packed.N > 1:
		return fmt.Errorf("it has %d bytes, not the %d that the manifest promises", size+1-packed.N, size)
	case !verifier.Verified():
		return fmt.Errorf("the tar in it is not the one with diff ID %s that the image's config promises", diffID)
	}
	return nil
}

// maxDiagnosis is how many bytes are worth reading once more to find out why a layer could not be used.
const maxDiagnosis = 64 << 20

// diagnose says whether the bytes of a layer are other ones than the manifest promises: then what that led to matters less.
func diagnose(ctx context.Context, src content.Fetcher, desc ocispec.Descriptor) error {
	if desc.Size > maxDiagnosis {
		return nil
	}
	body, err := src.Fetch(ctx, desc)
	if err != nil {
		return nil // there is an error to report already
	}
	defer body.Close() // only read
	packed := content.NewVerifyReader(body, desc)
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return nil
	}
	if err := packed.Verify(); err != nil {
		return fmt.Errorf("the bytes are not those of the digest: %w", err)
	}
	return nil
}
