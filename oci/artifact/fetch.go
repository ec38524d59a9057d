package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/oci/registry"
	"oras.land/oras-go/v2/content"
)

// maxWindow bounds the memory that decompressing a layer needs, in bytes. RFC 8878 asks every decoder for 8 MiB.
const maxWindow = 8 << 20

// FetchMeta writes the plain metadata image to w. When it returns nil, exactly MetaSize bytes with the digest MetaDigest were written; when it
// returns an error, what was written must be thrown away.
func (a *Artifact) FetchMeta(ctx context.Context, w io.Writer) error {
	if err := a.fetch(ctx, w, a.Meta, a.MetaSize, a.MetaDigest.Encoded()); err != nil {
		return fmt.Errorf("fetch metadata image of %s: %w", a.Name, err)
	}
	return nil
}

// FetchMap returns the verified map of blob i, 0 ≤ i < len(Blobs).
func (a *Artifact) FetchMap(ctx context.Context, i int) (*blob.Map, error) {
	var buf bytes.Buffer // grows with what arrives, not with what is announced
	if err := a.WriteMap(ctx, i, &buf); err != nil {
		return nil, err
	}
	m, err := blob.Parse(buf.Bytes())
	if err != nil {
		return nil, fmt.Errorf("fetch map of blob %s of %s: %w", a.Blobs[i].ID, a.Name, err)
	}
	return m, a.CheckMap(i, m)
}

// WriteMap writes the bytes of the map of blob i, 0 ≤ i < len(Blobs), to w. When it returns nil, they have the SHA-256 that the blob's ID says; whether they are a map
// that fits the artifact is for [blob.Parse] and [Artifact.CheckMap] to say.
func (a *Artifact) WriteMap(ctx context.Context, i int, w io.Writer) error {
	b := a.Blobs[i]
	if err := a.fetch(ctx, w, b.Map, b.MapSize, b.ID); err != nil {
		return fmt.Errorf("fetch map of blob %s of %s: %w", b.ID, a.Name, err)
	}
	return nil
}

// CheckMap compares the map of blob i with what the artifact says of the blob.
func (a *Artifact) CheckMap(i int, m *blob.Map) error {
	b := a.Blobs[i]
	if m.Size() != b.Size || m.Sources() != len(b.Sources) {
		return fmt.Errorf("map of blob %s of %s: it has %d bytes and %d source objects, the config says %d and %d", b.ID, a.Name, m.Size(), m.Sources(), b.Size, len(b.Sources))
	}
	for j, src := range b.Sources {
		if m.SourceSize(j) != src.Size {
			return fmt.Errorf("map of blob %s of %s: its source object %d has %d bytes, the manifest says %d", b.ID, a.Name, j, m.SourceSize(j), src.Size)
		}
	}
	return nil
}

// FetchIndex returns the verified index of blob i, whose map is m. It is nil if the blob has none.
func (a *Artifact) FetchIndex(ctx context.Context, i int, m *blob.Map) (*blob.Index, error) {
	b := a.Blobs[i]
	if b.Index == nil {
		return nil, nil
	}
	var buf bytes.Buffer
	err := a.fetch(ctx, &buf, *b.Index, b.IndexSize, "")
	var index *blob.Index
	if err == nil {
		index, err = blob.ParseIndex(buf.Bytes())
	}
	if err == nil {
		err = index.Check(m)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch index of blob %s of %s: %w", b.ID, a.Name, err)
	}
	return index, nil
}

// fetch decompresses a layer to w and checks both its own digest and, if sum is not empty, that of the plain bytes, of which there must be size.
func (a *Artifact) fetch(ctx context.Context, w io.Writer, desc ocispec.Descriptor, size int64, sum string) (err error) {
	body, err := a.src.Fetch(ctx, desc)
	if err != nil {
		return registry.Explain(err)
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	packed := content.NewVerifyReader(body, desc)
	z, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return err
	}
	defer z.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), io.LimitReader(z, size+1))
	if (err != nil || n != size) && damaged(packed) { // which says more than what it led to
		return fmt.Errorf("%s is damaged: the bytes are not those of the digest; make the artifact again, or copy it anew from where it is sound", desc.Digest)
	}
	switch {
	case err != nil:
		return fmt.Errorf("decompress %s: %w", desc.Digest, err)
	case n != size:
		return fmt.Errorf("decompress %s: the config says %d bytes, there are %s", desc.Digest, size, count(n, size))
	}
	if err := drop(packed); err != nil {
		return fmt.Errorf("read %s: %w", desc.Digest, err)
	}
	if err := packed.Verify(); err != nil {
		return fmt.Errorf("verify %s: %w", desc.Digest, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); sum != "" && got != sum {
		return fmt.Errorf("verify plain bytes of %s: SHA-256 is %s, want %s", desc.Digest, got, sum)
	}
	return nil
}

// damaged reports whether a stream, which is read to its end, has other bytes than its digest promises.
func damaged(packed *content.VerifyReader) bool {
	return drop(packed) == nil && errors.Is(packed.Verify(), content.ErrMismatchedDigest)
}

// count says how many bytes there are when reading stopped at one too many.
func count(n, limit int64) string {
	if n > limit {
		return "more"
	}
	return fmt.Sprint(n)
}
