package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/oci"
	ociregistry "github.com/pagein/pagein/oci/registry"
	"github.com/pagein/pagein/snapshotter/imagestore"
)

const (
	// checkNamespace of containerd has the image that is pulled for a check.
	checkNamespace = "pagein-check"
	// checkFile is what that image has, if it is our own.
	checkFile = "check"
	checkSize = 64 << 10 // bytes
	// headerTimeout is how long a client of the registry on loopback may take to ask.
	headerTimeout = 10 * time.Second
)

// wantsCheck reports whether an image is to be pulled.
func wantsCheck(c *cli.Context) bool { return c.Bool("check") || c.String("check-image") != "" }

// onlyChecks reports whether nothing but a check is asked for: neither is a configuration named that it would be seen for what it lacks, nor is anything to be done with one.
func onlyChecks(c *cli.Context) bool {
	return wantsCheck(c) && !slices.ContainsFunc([]string{"apply", "restart", "cri", "containerd-program", containerdConfigFlag}, c.IsSet)
}

// knowsWhereToAsk reports whether a check can ask the containerd that is meant, after what findContainerd says: one whose program is not to be found may run all the same.
func knowsWhereToAsk(c *cli.Context, found error) bool {
	return found == nil || c.IsSet(containerdFlag) || errors.Is(found, exec.ErrNotFound)
}

// knowsUs returns an error if the containerd that runs does not know the snapshotter.
func knowsUs(c *cli.Context) error {
	store, err := openStore(c, imagestore.Options{})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if err = errors.Join(store.Known(c.Context), store.Close()); err != nil {
		return fmt.Errorf("check: %w (\"pagein install containerd --apply\" has it know that, once pageind and containerd were restarted)", err)
	}
	return nil
}

// checkPull pulls an image through containerd and makes sure that it is mounted lazily.
func checkPull(c *cli.Context) (err error) {
	if err := knowsUs(c); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c.App.Writer, "containerd at %s knows the snapshotter %q.\n", c.String(containerdFlag), c.String("snapshotter")); err != nil {
		return err
	}
	r, client, err := openRemote(c)
	if err != nil {
		return err
	}
	defer r.Close()
	defer client.Close()
	image, want := c.String("check-image"), []byte(nil)
	if image == "" {
		var stop func() error
		if image, want, stop, err = serveImage(c, client); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	ref, err := oci.ParseRef(image)
	if err != nil {
		return misuse(c, "%v", err)
	}
	store, err := openStore(c, imagestore.Options{Namespace: checkNamespace, Registry: client})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := tryPull(c.Context, store, ref, want); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "Checked: %s was pulled without its layers, and can be read.\n", image)
	return err
}

// tryPull pulls an image and removes it again. If want is not nil, it is what is read.
func tryPull(ctx context.Context, store *imagestore.Store, ref oci.Ref, want []byte) (err error) {
	defer func() { err = errors.Join(err, store.Forget(context.WithoutCancel(ctx), ref)) }()
	pulled, err := store.Pull(ctx, ref)
	if err != nil {
		return err
	}
	if pulled.Lazy() == 0 {
		return fmt.Errorf("%s was unpacked as any other image: the log of pageind says why (if all artifacts must be signed, name one that is with --check-image)", pulled.Name)
	}
	if want == nil {
		return nil
	}
	got, err := store.ReadFile(ctx, pulled.Name, checkFile)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s has wrong data in it", pulled.Name)
	}
	return nil
}

// serveImage makes an image with an artifact, of data that no image had before, in a registry on loopback that lives until stop is called.
func serveImage(c *cli.Context, client *ociregistry.Client) (image string, data []byte, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	server := &http.Server{Handler: registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))), ReadHeaderTimeout: headerTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l) // it ends with the error that it was closed
	}()
	stop = func() error {
		err := server.Close()
		<-ended
		return err
	}
	data = make([]byte, checkSize)
	_, _ = rand.Read(data) // it does not fail
	ref := oci.Ref{Kind: oci.Registry, Host: l.Addr().String(), Repository: "pagein", Tag: "check"}
	if err := pushImage(c.Context, client, ref, data); err != nil {
		return "", nil, nil, errors.Join(err, stop())
	}
	var said strings.Builder
	if run(c.Context, []string{"pagein", "--config", c.Path("config"), "convert", "--quiet", ref.String()}, io.Discard, &said) != exitSuccess {
		return "", nil, nil, errors.Join(errors.New(strings.TrimSpace(said.String())), stop())
	}
	return ref.String(), data, stop, nil
}

// pushImage pushes an image of one file.
func pushImage(ctx context.Context, client *ociregistry.Client, ref oci.Ref, data []byte) error {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := w.WriteHeader(&tar.Header{Name: checkFile, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))})
	if err == nil {
		_, err = w.Write(data)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return err
	}
	repo, err := client.Repository(ref)
	if err != nil {
		return err
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer.Bytes())}},
	})
	if err != nil {
		return err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: content.NewDescriptorFromBytes(ocispec.MediaTypeImageConfig, config),
		Layers: []ocispec.Descriptor{content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, layer.Bytes())},
	}
	if err := errors.Join(repo.Push(ctx, m.Config, bytes.NewReader(config)), repo.Push(ctx, m.Layers[0], &layer)); err != nil {
		return err
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return repo.PushReference(ctx, content.NewDescriptorFromBytes(m.MediaType, manifest), bytes.NewReader(manifest), ref.Tag)
}
