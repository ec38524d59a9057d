package imageservice

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/oci/registry"
)

// runtime is what containerd is to the proxy.
type runtime struct {
	cri.UnimplementedImageServiceServer
	pulled *cri.PullImageRequest
	agent  []string
	during func()
	err    error
}

func (r *runtime) PullImage(ctx context.Context, req *cri.PullImageRequest) (*cri.PullImageResponse, error) {
	r.pulled = req
	md, _ := metadata.FromIncomingContext(ctx)
	r.agent = md.Get("x-test")
	if err := errors.Join(grpc.SetHeader(ctx, metadata.Pairs("x-header", "h")), grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t"))); err != nil {
		return nil, err
	}
	if r.during != nil {
		r.during()
	}
	return &cri.PullImageResponse{ImageRef: "sha256:1"}, r.err
}

func (r *runtime) ImageFsInfo(context.Context, *cri.ImageFsInfoRequest) (*cri.ImageFsInfoResponse, error) {
	fs := func(dir string, n uint64) *cri.FilesystemUsage {
		return &cri.FilesystemUsage{FsId: &cri.FilesystemIdentifier{Mountpoint: dir}, UsedBytes: &cri.UInt64Value{Value: n}, InodesUsed: &cri.UInt64Value{Value: n}}
	}
	return &cri.ImageFsInfoResponse{ImageFilesystems: []*cri.FilesystemUsage{fs("/ours", 1), fs("/other", 2)}, ContainerFilesystems: []*cri.FilesystemUsage{fs("/ours", 1)}}, nil
}

// fullDisk has a thousand bytes in ten files, or is broken.
type fullDisk struct{ err error }

func (d *fullDisk) Used(context.Context) (string, uint64, uint64, error) {
	return "/ours", 1000, 10, d.err
}

// later is a method that this version of the interface does not have: it answers with several messages.
var later = grpc.ServiceDesc{ServiceName: "runtime.v1.ImageService", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
	StreamName: "WatchImages", ServerStreams: true,
	Handler: func(_ any, s grpc.ServerStream) error {
		request := new(frame)
		if err := s.RecvMsg(request); err != nil {
			return err
		}
		for _, more := range []string{"a", "b"} {
			if err := s.SendMsg(&frame{append(request.bytes, more...)}); err != nil {
				return err
			}
		}
		return status.Error(codes.Aborted, "that was all")
	},
}}}

// lab is a proxy between a client and a runtime.
type lab struct {
	runtime *runtime
	pulls   *registry.Pulled
	disk    *fullDisk
	conn    *grpc.ClientConn
}

func listen(t *testing.T, server *grpc.Server) (address string) {
	t.Helper()
	return listenAt(t, filepath.Join(t.TempDir(), "sock"), server)
}

func listenAt(t *testing.T, path string, server *grpc.Server) (address string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // it ends when it is stopped
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return "unix://" + path
}

func newLab(t *testing.T, register func(*grpc.Server, *runtime), o ...grpc.ServerOption) *lab {
	t.Helper()
	l := &lab{runtime: &runtime{}, pulls: new(registry.Pulled), disk: new(fullDisk)}
	behind := grpc.NewServer(o...)
	register(behind, l.runtime)
	proxy, err := New(Config{listen(t, behind), l.pulls, l.disk, slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	if l.conn, err = grpc.NewClient(listen(t, grpc.NewServer(proxy.Options()...)), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.conn.Close() })
	return l
}

func images(s *grpc.Server, r *runtime) { cri.RegisterImageServiceServer(s, r) }

// has is the password that is remembered for the repository of the pulls.
func (l *lab) has(t *testing.T) string {
	t.Helper()
	c, err := l.pulls.Credential(t.Context(), registry.Place{Registry: "registry.example.com", Repository: "team/app", Host: "registry.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return c.Username + c.Password + c.RefreshToken + c.AccessToken
}

func (l *lab) pull(t *testing.T, auth *cri.AuthConfig) error {
	t.Helper()
	_, err := cri.NewImageServiceClient(l.conn).PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "registry.example.com/team/app:1"}, Auth: auth})
	return err
}

func TestCredentialsAreKnownBeforeThePullBegins(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	for name, c := range map[string]struct {
		auth *cri.AuthConfig
		want string
	}{
		"none":           {nil, ""},
		"name":           {&cri.AuthConfig{Username: "me", Password: "secret"}, "mesecret"},
		"encoded":        {&cri.AuthConfig{Auth: encoded}, "mesecret"},
		"identity token": {&cri.AuthConfig{IdentityToken: "refresh"}, "refresh"},
		"registry token": {&cri.AuthConfig{RegistryToken: "access"}, "access"},
		"other server":   {&cri.AuthConfig{Username: "me", Password: "secret", ServerAddress: "https://other.example.com"}, ""},
		"nonsense":       {&cri.AuthConfig{Auth: "?"}, ""},
	} {
		l := newLab(t, images)
		var during string
		l.runtime.during = func() { during = l.has(t) }
		if err := l.pull(t, c.auth); err != nil || during != c.want || l.has(t) != c.want {
			t.Errorf("%s: known is %q, then %q, want %q; %v", name, during, l.has(t), c.want, err)
		}
	}
}

func TestAFailedPullLeavesTheCredentialsOfTheLastGoodOne(t *testing.T) {
	l := newLab(t, images)
	if err := l.pull(t, &cri.AuthConfig{Username: "me", Password: "good"}); err != nil {
		t.Fatal(err)
	}
	l.runtime.err = status.Error(codes.PermissionDenied, "no")
	if err := l.pull(t, &cri.AuthConfig{Username: "me", Password: "bad"}); status.Code(err) != codes.PermissionDenied || l.has(t) != "megood" {
		t.Errorf("%v; there is %q", err, l.has(t))
	}
}

// TestWhatIsSaidPassesAsItIs sends a field and calls a method of later versions, and metadata.
func TestWhatIsSaidPassesAsItIs(t *testing.T) {
	l := newLab(t, images)
	request := &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "a/b"}}
	field := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "new")
	request.ProtoReflect().SetUnknown(field)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-test", "here")
	var header, trailer metadata.MD
	answer, err := cri.NewImageServiceClient(l.conn).PullImage(ctx, request, grpc.Header(&header), grpc.Trailer(&trailer))
	if said := strings.Join(append(header.Get("x-header"), trailer.Get("x-trailer")...), ""); said != "ht" {
		t.Errorf("of header and trailer there is %q", said)
	}
	if err != nil || answer.ImageRef != "sha256:1" || string(l.runtime.pulled.ProtoReflect().GetUnknown()) != string(field) || strings.Join(l.runtime.agent, "") != "here" {
		t.Errorf("%v, %v: %v, %q", answer, err, l.runtime.pulled, l.runtime.agent)
	}

	l = newLab(t, func(s *grpc.Server, _ *runtime) { s.RegisterService(&later, nil) }, grpc.ForceServerCodecV2(codec{}))
	stream, err := l.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, prefix+"WatchImages", grpc.ForceCodecV2(codec{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(&frame{[]byte("x")}); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"xa", "xb"} {
		got := new(frame)
		if err := stream.RecvMsg(got); err != nil || string(got.bytes) != want {
			t.Errorf("got %q, %v; want %q", got.bytes, err, want)
		}
	}
	if err := stream.RecvMsg(new(frame)); status.Code(err) != codes.Aborted {
		t.Errorf("it ends with %v", err)
	}
}

func TestKubeletIsToldWhatImagesTakeNow(t *testing.T) {
	l := newLab(t, images)
	for _, c := range []struct {
		err         error
		bytes, inos uint64
	}{{nil, 1000, 10}, {errors.New("no idea"), 1, 1}} {
		l.disk.err = c.err
		info, err := cri.NewImageServiceClient(l.conn).ImageFsInfo(t.Context(), &cri.ImageFsInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		ours, other, containers := info.ImageFilesystems[0], info.ImageFilesystems[1], info.ContainerFilesystems[0]
		if ours.UsedBytes.Value != c.bytes || ours.InodesUsed.Value != c.inos || other.UsedBytes.Value != 2 || containers.UsedBytes.Value != c.bytes {
			t.Errorf("%v: %v", c.err, info)
		}
	}
}

// TestPullsGoOnWhenContainerdIsBack has it stop and start again.
func TestPullsGoOnWhenContainerdIsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "containerd")
	start := func() *grpc.Server {
		server := grpc.NewServer()
		images(server, new(runtime))
		listenAt(t, path, server)
		return server
	}
	first := start()
	proxy, err := New(Config{"unix://" + path, new(registry.Pulled), new(fullDisk), slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	l := new(lab)
	if l.conn, err = grpc.NewClient(listen(t, grpc.NewServer(proxy.Options()...)), grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.conn.Close() })
	if err := l.pull(t, nil); err != nil {
		t.Fatal(err)
	}
	first.Stop()
	if err := l.pull(t, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("without containerd: %v", err)
	}
	start()
	await.True(t, "containerd to be asked again", func() bool { return l.pull(t, nil) == nil })
}

func TestBigMessagesPass(t *testing.T) {
	l := newLab(t, images, grpc.MaxRecvMsgSize(maxMessage))
	labels := map[string]string{"x": strings.Repeat("x", 15<<20)}
	_, err := cri.NewImageServiceClient(l.conn).PullImage(t.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: "a/b", Annotations: labels}})
	if err != nil || len(l.runtime.pulled.GetImage().GetAnnotations()["x"]) != 15<<20 {
		t.Error(err)
	}
}

func TestOnlyTheImageServiceIsForwarded(t *testing.T) {
	l := newLab(t, images)
	if _, err := cri.NewRuntimeServiceClient(l.conn).Version(t.Context(), &cri.VersionRequest{}); status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "pageind") {
		t.Errorf("got %v", err)
	}
	for _, address := range []string{"", "tcp://127.0.0.1:1", "/run/sock", "unix://relative"} {
		if _, err := New(Config{Address: address}); err == nil {
			t.Errorf("address %q is taken", address)
		}
	}
}

// FuzzLearn has containerd's interface abused: whatever is sent is containerd's to refuse.
func FuzzLearn(f *testing.F) {
	f.Add([]byte("\n\x05\n\x03a/b\x12\x0a\n\x02me\x12\x01x"))
	f.Add([]byte{0xff})
	f.Fuzz(func(_ *testing.T, b []byte) {
		p := &Proxy{Config: Config{Pulls: new(registry.Pulled), Log: slog.New(slog.DiscardHandler)}}
		p.learn(b)(false)
	})
}

var _ Pulls = (*registry.Pulled)(nil)
