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

// readLayer reads a layer and checks that both its bytes and the tar in them are what the image promises.
func readLayer(ctx context.Context, l *mkfs.Layer, src content.Fetcher, desc ocispec.Descriptor, diffID digest.Digest, count counter) (err error) {
	body, err := src.Fetch(ctx, desc)
	if err != nil {
		return registry.Explain(err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	packed := content.NewVerifyReader(body, desc)
	plain, err := mkfs.Decompress(count.reader(packed))
	if err != nil {
		return notAsPromised(packed, err)
	}
	verifier := diffID.Verifier()
	ahead := newAhead(io.TeeReader(plain, verifier))
	readErr := l.ReadLayer(ctx, ahead)
	ahead.stop()
	_ = plain.Close() // only read
	if readErr != nil {
		return notAsPromised(packed, readErr)
	}
	if err := verify(packed); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("the tar in it is not the one with diff ID %s that the image's config promises", diffID)
	}
	return nil
}

// maxDiagnosis is how many bytes are worth reading to find out why a layer could not be applied.
const maxDiagnosis = 64 << 20

// notAsPromised prefers to say that a layer is corrupt over what that corruption led to.
func notAsPromised(packed *content.VerifyReader, err error) error {
	if _, copyErr := io.CopyN(io.Discard, packed, maxDiagnosis); !errors.Is(copyErr, io.EOF) {
		return err
	}
	if verifyErr := verify(packed); verifyErr != nil {
		return fmt.Errorf("%w (%w)", verifyErr, err)
	}
	return err
}

// verify reads what is left and compares size and digest.
func verify(packed *content.VerifyReader) error {
	if _, err := io.Copy(io.Discard, packed); err != nil {
		return fmt.Errorf("read layer: %w", err)
	}
	if err := packed.Verify(); err != nil {
		return fmt.Errorf("the bytes are not those of the digest: %w", err)
	}
	return nil
}
