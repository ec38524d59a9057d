package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/servertest"
)

// criLab is a lab whose containerd serves Kubernetes, which is the test: it speaks kubelet's protocol.
type criLab struct {
	*runtimeLab
	images    cri.ImageServiceClient // containerd's
	forwarded cri.ImageServiceClient // the same through the daemon
	pods      cri.RuntimeServiceClient
	gate      *gate
	config    []string // arguments of the daemon
}

// withEachContainerd runs a test with the series of containerd that are supported, in guests with the newer one only.
func withEachContainerd(t *testing.T, test func(t *testing.T, o servertest.ContainerdOptions)) {
	for name, old := range map[string]bool{"1.7": true, "2": false} {
		t.Run(name, func(t *testing.T) {
			if old && os.Getenv(require.GuestEnv) != "" {
				t.Skip("the guests have one containerd")
			}
			beside(t)
			test(t, servertest.ContainerdOptions{Old: old})
		})
	}
}

// newCRILab adds to a prepared lab a containerd and a daemon that forwards the image service. Sandboxes are of an ordinary image, whose layer is the lowest one of the
// lab's images too.
func newCRILab(r *runtimeLab, o servertest.ContainerdOptions) *criLab {
	r.Helper()
	l := &criLab{runtimeLab: r}
	o.Sandbox = l.push("pause", l.layers[0])
	l.gate = newGate(r.T, l.registry)
	l.registry = l.gate.addr
	l.startContainerd(o)
	l.env = []string{"DOCKER_CONFIG=" + r.TempDir()} // who runs the tests may have logged in somewhere
	l.config = l.configure("[snapshotter]\nimage-service = 'unix://%s'\n", l.Socket())
	l.serve(l.config...)
	direct, forwarded := l.dial(l.Socket()), l.dial(strings.TrimPrefix(l.snapshots(), "unix://"))
	l.images, l.pods, l.forwarded = cri.NewImageServiceClient(direct), cri.NewRuntimeServiceClient(direct), cri.NewImageServiceClient(forwarded)
	l.Cleanup(l.removePods)
	return l
}

func (l *criLab) dial(socket string) *grpc.ClientConn {
	l.Helper()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = conn.Close() })
	return conn
}

// pullImage has an image pulled as kubelet does.
func (l *criLab) pullImage(by cri.ImageServiceClient, image string, login *cri.AuthConfig) {
	l.Helper()
	if err := l.tryPull(by, image, login); err != nil {
		l.Fatal(err)
	}
}

func (l *criLab) tryPull(by cri.ImageServiceClient, image string, login *cri.AuthConfig) error {
	_, err := by.PullImage(l.Context(), &cri.PullImageRequest{Image: &cri.ImageSpec{Image: image}, Auth: login})
	return err
}

// pod starts a pod on the host's network.
func (l *criLab) pod(name string) (id string, config *cri.PodSandboxConfig) {
	l.Helper()
	config = &cri.PodSandboxConfig{
		Metadata:     &cri.PodSandboxMetadata{Name: name, Uid: name, Namespace: "default"},
		LogDirectory: filepath.Join(l.dir, "logs"),
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER},
		}},
	}
	if err := os.MkdirAll(config.LogDirectory, 0o755); err != nil {
		l.Fatal(err)
	}
	made, err := l.pods.RunPodSandbox(l.Context(), &cri.RunPodSandboxRequest{Config: config})
	if err != nil {
		l.Fatal(err)
	}
	return made.PodSandboxId, config
}

// container starts a container in a pod. What it prints is in its log.
func (l *criLab) container(pod string, of *cri.PodSandboxConfig, image string, command ...string) (id, log string) {
	l.Helper()
	made, err := l.pods.CreateContainer(l.Context(), &cri.CreateContainerRequest{PodSandboxId: pod, SandboxConfig: of, Config: &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: of.Metadata.Name + "-main"}, Image: &cri.ImageSpec{Image: image}, Command: command, LogPath: of.Metadata.Name + ".log",
	}})
	if err != nil {
		l.Fatal(err)
	}
	if _, err := l.pods.StartContainer(l.Context(), &cri.StartContainerRequest{ContainerId: made.ContainerId}); err != nil {
		l.Fatal(err)
	}
	return made.ContainerId, filepath.Join(of.LogDirectory, of.Metadata.Name+".log")
}

// exec runs a command of busybox in a container and returns what it prints.
func (l *criLab) exec(container string, args ...string) string {
	l.Helper()
	done, err := l.pods.ExecSync(l.Context(), &cri.ExecSyncRequest{ContainerId: container, Cmd: append([]string{"/bin/busybox"}, args...), Timeout: 60})
	if err != nil {
		l.Fatal(err)
	}
	if done.ExitCode != 0 {
		l.Errorf("%v exits with %d: %s", args, done.ExitCode, done.Stderr)
	}
	return string(done.Stdout)
}

// removePods ends and removes all pods.
func (l *criLab) removePods() {
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience) // that of the test is over
	defer cancel()
	all, err := l.pods.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	if err != nil {
		l.Error(err)
		return
	}
	for _, p := range all.Items {
		if _, err := l.pods.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			l.Error(err)
		}
		if _, err := l.pods.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: p.Id}); err != nil {
			l.Error(err)
		}
	}
}

// gate stands before a registry and counts what passes.
type gate struct {
	addr string

	mu     sync.Mutex
	served map[string]int64 // bytes of bodies, by path
}

func newGate(t *testing.T, registry string) *gate {
	t.Helper()
	g := &gate{served: make(map[string]int64)}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: registry})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		counted := &countingWriter{ResponseWriter: w}
		proxy.ServeHTTP(counted, r)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.served[r.URL.Path] += counted.n
	}))
	t.Cleanup(server.Close)
	g.addr = strings.TrimPrefix(server.URL, "http://")
	return g
}

// of is how many bytes of layers were served.
func (g *gate) of(layers ...imageLayer) (n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for path, served := range g.served {
		for _, l := range layers {
			if strings.HasSuffix(path, "/blobs/"+l.Digest.String()) {
				n += served
			}
		}
	}
	return n
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.n += int64(n)
	return n, err
}

// Unwrap lets the proxy flush.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
