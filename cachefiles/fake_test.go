package cachefiles

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/blob"
	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/transporttest"
	"github.com/pagein/pagein/ondemand"
	"github.com/pagein/pagein/ondemand/backend"
)

// kernel plays the kernel's part at the other end of a socket, for what a real one cannot be brought to do on demand. Objects are files on the disk here: the
// transport seeks and writes in them as it does in the kernel's, and only completing a READ fails, which it logs.
type kernel struct {
	t  *testing.T
	fd int
}

// startFake starts a transport that serves a kernel, until the test ends.
func startFake(t *testing.T, h *transporttest.Holder) (*Transport, *kernel, *lines) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(await.Patience.Nanoseconds())
	for _, o := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, o, &limit); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = unix.Close(pair[0]) })
	tr, log := adopt(t, h, pair[1])
	tr.adopted = false // no "restore" is expected
	serve(t, tr)
	return tr, &kernel{t: t, fd: pair[0]}, log
}

// adopt makes a transport that finds fd left by a predecessor.
func adopt(t *testing.T, h *transporttest.Holder, fd int) (*Transport, *lines) {
	t.Helper()
	log := &lines{}
	cfg := Config{
		Dir: t.TempDir(), Adopted: map[string]int{HeldName: fd},
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if h != nil {
		if err := h.Hold(HeldName, fd); err != nil {
			t.Fatal(err)
		}
		cfg.Holder = h
	}
	tr, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return tr, log
}

// serve has the transport serve until the test ends, and fails the test when it ends earlier.
func serve(t *testing.T, tr *Transport) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- tr.Serve(ctx) }()
	t.Cleanup(func() {
		select {
		case err := <-served:
			t.Errorf("Serve has ended early: %v", err)
			return
		default:
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func (k *kernel) send(id, op, object uint32, payload []byte) {
	k.t.Helper()
	b := binary.NativeEndian.AppendUint32(nil, id)
	b = binary.NativeEndian.AppendUint32(b, op)
	b = binary.NativeEndian.AppendUint32(b, uint32(headerSize+len(payload)))
	b = append(binary.NativeEndian.AppendUint32(b, object), payload...)
	if _, err := unix.Write(k.fd, b); err != nil {
		k.t.Fatalf("the transport takes no more messages: %v", err)
	}
	k.idle()
}

// idle makes the next read(2) return 0, as the device does when nothing is pending.
func (k *kernel) idle() { _, _ = unix.SendmsgN(k.fd, nil, nil, nil, unix.MSG_NOSIGNAL) }

// open sends an OPEN for a new file, and returns that and the answer.
func (k *kernel) open(id, object uint32, cookie string) (path, answer string) {
	k.t.Helper()
	f, err := os.CreateTemp(k.t.TempDir(), "object")
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	if err := f.Truncate(64 * mib); err != nil {
		k.t.Fatal(err)
	}
	const volume = "erofs,pagein\x00"
	b := binary.NativeEndian.AppendUint32(nil, uint32(len(volume)))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(cookie)))
	b = binary.NativeEndian.AppendUint32(b, uint32(fd))
	b = binary.NativeEndian.AppendUint32(b, 0)
	k.send(id, opOpen, object, append(b, volume+cookie...))
	return f.Name(), k.answer()
}

func (k *kernel) read(id, object uint32, off, n uint64) {
	k.t.Helper()
	b := binary.NativeEndian.AppendUint64(nil, off)
	k.send(id, opRead, object, binary.NativeEndian.AppendUint64(b, n))
}

// answer is the next command of the transport.
func (k *kernel) answer() string {
	k.t.Helper()
	b := make([]byte, maxMessage)
	n, err := unix.Read(k.fd, b)
	if err != nil {
		k.t.Fatalf("the transport does not answer: %v", err)
	}
	return string(b[:n])
}

// deadDevice is a descriptor that gives EIO for everything, as the device of a dead cache does: nothing is mapped at address 0.
func deadDevice(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/proc/self/mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// kill puts a dead device in the place of the transport's. wake makes it look.
func kill(t *testing.T, tr *Transport, wake func()) {
	t.Helper()
	dead := deadDevice(t)
	defer func() { _ = unix.Close(dead) }()
	tr.mu.Lock()
	err := unix.Dup3(dead, tr.dev.fd, unix.O_CLOEXEC)
	tr.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wake()
	await.True(t, "the death is noticed", func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return tr.dead != nil
	})
}

// silent is an image with one blob whose source does not answer before release. Its map is in memory that can be unmapped.
type silent struct {
	*ondemand.Image
	source  *transporttest.Origin
	release func()
	raw     []byte
}

func newSilent(t *testing.T, name string, sizes ...int) *silent {
	t.Helper()
	b := newBlob(t, 20, sizes...)
	release := transporttest.HoldUp(b.source)
	raw, err := unix.Mmap(-1, 0, len(b.m.Bytes()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	copy(raw, b.m.Bytes())
	m, err := blob.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ondemand.New(slog.New(slog.DiscardHandler), ondemand.Options{Attempts: 8, Backoff: time.Millisecond, ReadAhead: -1})
	if err != nil {
		t.Fatal(err)
	}
	eb, err := e.Blob(m, []backend.Object{b.source})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		eb.Close()
	})
	meta := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(meta, make([]byte, blockSize), 0o600); err != nil {
		t.Fatal(err)
	}
	return &silent{Image: &ondemand.Image{ID: name, MetaPath: meta, MetaSize: blockSize, Blobs: []*ondemand.Blob{eb}}, source: b.source, release: release, raw: raw}
}

func (s *silent) attach(t *testing.T, tr *Transport) {
	t.Helper()
	if _, err := tr.Attach(t.Context(), s.Image); err != nil {
		t.Fatal(err)
	}
}
