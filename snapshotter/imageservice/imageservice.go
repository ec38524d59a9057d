// Package imageservice stands between kubelet and containerd's image service (runtime.v1.ImageService) and learns the credentials that images are pulled with.
//
// kubelet gives them to who pulls, and nobody else gets to see them: not the snapshotter, and nobody who fetches bytes later. It also knows better than
// containerd what the disk of the images has on it, as containerd measures an image only once. The package knows how to forward calls, one kind of request that it reads, and one kind of
// answer that it changes. The one idea to hold in mind: whatever else kubelet and containerd say to each other passes as it is, methods and fields of later versions included.
package imageservice

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/oci"
	"github.com/pagein/pagein/oci/registry"
)

const (
	// prefix is that of all methods of the image service.
	prefix = "/runtime.v1.ImageService/"
	// maxMessage bounds a message, in bytes. It is what kubelet and containerd allow.
	maxMessage = 16 << 20
)

// Pulls learns the credentials of pulls.
type Pulls interface {
	// Remember has a credential, which is said to be for a server, used for the repository of an image while that is pulled, and afterwards if that worked. The returned function says so.
	Remember(image oci.Ref, server string, c registry.Credential) (ended func(worked bool))
}

// Config is what a proxy is made of. All of it is required.
type Config struct {
	Address string // of containerd: "unix:///run/containerd/containerd.sock"
	Pulls   Pulls
	Disk    Disk
	Log     *slog.Logger
}

// Proxy forwards calls to containerd. Its methods may be called concurrently.
type Proxy struct {
	Config
	conn *grpc.ClientConn
}

// New returns a proxy. It does not connect before it is called.
func New(c Config) (*Proxy, error) {
	address := c.Address
	if !strings.HasPrefix(address, "unix:///") {
		return nil, fmt.Errorf("forward to the image service at %q: the address must be unix:///PATH", address)
	}
	// Once it was away, containerd is looked for as soon again as kubelet itself does it: by default it would be ever more slowly, up to every two minutes.
	comeback := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second}, MinConnectTimeout: 5 * time.Second}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(comeback),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("forward to the image service at %s: %w", address, err)
	}
	return &Proxy{c, conn}, nil
}

// Close ends the connection to containerd.
func (p *Proxy) Close() error { return p.conn.Close() }

// Options make a gRPC server forward calls to the image service, besides what is registered with it.
func (p *Proxy) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return p.handle(s) }), grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
	}
}

// handle answers a call.
func (p *Proxy) handle(s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	if !strings.HasPrefix(method, prefix) {
		return status.Errorf(codes.Unimplemented, "pageind does not serve %s: of Kubernetes' interface it has the image service", method)
	}
	request := new(frame)
	if err := s.RecvMsg(request); err != nil {
		return err
	}
	as := func(f *frame) *frame { return f }
	switch method {
	case prefix + "PullImage":
		ended := p.learn(request.bytes)
		err := p.forward(s, method, request, as)
		ended(err == nil)
		return err
	case prefix + "ImageFsInfo":
		as = func(f *frame) *frame { return p.complete(s.Context(), f) }
	}
	return p.forward(s, method, request, as)
}

// forward sends a request on, and back what is answered: one message, or several.
func (p *Proxy) forward(s grpc.ServerStream, method string, request *frame, as func(*frame) *frame) error {
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, md.Copy())
	}
	out, err := p.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := out.SendMsg(request); err != nil && !errors.Is(err, io.EOF) { // io.EOF: what RecvMsg says is the reason
		return err
	}
	if err := out.CloseSend(); err != nil {
		return err
	}
	if header, err := out.Header(); err == nil { // else RecvMsg says what is wrong
		if err := s.SetHeader(header); err != nil {
			return err
		}
	}
	for {
		answer := new(frame)
		if err := out.RecvMsg(answer); err != nil {
			s.SetTrailer(out.Trailer())
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.SendMsg(as(answer)); err != nil {
			return err
		}
	}
}

// learn remembers what an image is about to be pulled with, and returns how to say whether that worked. A request that cannot be read is containerd's to refuse.
func (p *Proxy) learn(request []byte) (ended func(worked bool)) {
	nothing := func(bool) {}
	var r cri.PullImageRequest
	if err := proto.Unmarshal(request, &r); err != nil {
		return nothing
	}
	c, err := credentialOf(r.GetAuth())
	if err != nil {
		p.Log.Warn("credentials of a pull are not used", "image", r.GetImage().GetImage(), "reason", err)
		return nothing
	}
	if c == (registry.Credential{}) {
		return nothing
	}
	image, err := oci.ParseRef(r.GetImage().GetImage())
	if err != nil || image.Kind != oci.Registry {
		return nothing
	}
	return p.Pulls.Remember(image, r.GetAuth().GetServerAddress(), c)
}

// credentialOf reads what kubelet gives, as containerd does.
func credentialOf(a *cri.AuthConfig) (registry.Credential, error) {
	switch {
	case a.GetUsername() != "":
		return registry.Credential{Username: a.GetUsername(), Password: a.GetPassword()}, nil
	case a.GetIdentityToken() != "":
		return registry.Credential{RefreshToken: a.GetIdentityToken()}, nil
	case a.GetAuth() != "":
		b, err := base64.StdEncoding.DecodeString(a.GetAuth())
		user, password, ok := strings.Cut(strings.TrimRight(string(b), "\x00"), ":")
		if err != nil || !ok {
			return registry.Credential{}, errors.New("auth is not USER:PASSWORD in base64") // which would be the secret: it is not quoted
		}
		return registry.Credential{Username: user, Password: password}, nil
	}
	return registry.Credential{AccessToken: a.GetRegistryToken()}, nil
}
