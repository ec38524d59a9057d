package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/cutdisk"
)

func TestMain(m *testing.M) {
	cutdisk.Init()
	os.Exit(m.Run())
}

// cuts is how often the power is cut for each file system; PAGEIN_CUTS says otherwise.
func cuts(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("PAGEIN_CUTS"))
	if err != nil && os.Getenv("PAGEIN_CUTS") != "" {
		t.Fatal(err)
	}
	if n == 0 {
		n = 30
	}
	return n
}

// The blobs that the tests write.
const (
	cutBlobs     = 3
	cutFrames    = 4200 // their bits take two sectors
	cutFrameSize = 4096
)

// frameBytes is what a frame of a blob holds: bytes that nothing else has.
func frameBytes(blob, frame int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(blob), uint64(frame)))
	b := make([]byte, cutFrameSize)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], rnd.Uint64()|1)
	}
	return b
}

// promise is what the store has said of one thing, and must keep whenever the power is cut.
type promise struct {
	kept    atomic.Bool   // it is durable
	changes atomic.Uint64 // how often that was taken back
}

// given is what a promise was at one time.
type given struct {
	kept    bool
	changes uint64
}

func (p *promise) now() given { return given{p.kept.Load(), p.changes.Load()} }

// holds reports whether a promise that was so before a cut must be kept after it: it was given, and not taken back since.
func (p *promise) holds(before given) bool { return before.kept && p.now() == before }

func (p *promise) give() { p.kept.Store(true) }

func (p *promise) takeBack() {
	p.kept.Store(false)
	p.changes.Add(1)
}

// writer does to a store what a daemon does to it, in random order.
type writer struct {
	t     *testing.T
	s     *Store
	rnd   *rand.Rand
	sync  func(fd int) error // of the blobs
	blobs [cutBlobs]*Blob

	frames [cutBlobs][cutFrames]promise
	metas  [64]promise
	state  atomic.Int64 // the number that was saved last

	checkpoints, forgotten int

	turn sync.Mutex // held during a step
}

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

func cutBlobID(i int) string { return digestOf("blob " + strconv.Itoa(i)) }

func (w *writer) open(i int) {
	b, err := w.s.OpenBlob(cutBlobID(i), cutFrames*cutFrameSize, cutFrames)
	if err != nil {
		w.t.Error(err)
		return
	}
	if w.sync != nil {
		b.sync = w.sync
	}
	w.blobs[i] = b
}

func (w *writer) close(i int) {
	present := w.present(i)
	w.must(w.blobs[i].Close())
	w.promise(i, present)
}

// promise says that frames of a blob are durable.
func (w *writer) promise(i int, frames []int) {
	w.checkpoints++
	for _, f := range frames {
		w.frames[i][f].give()
	}
}

func (w *writer) present(i int) (list []int) {
	for f := range cutFrames {
		if w.blobs[i].Presence().Has(f) {
			list = append(list, f)
		}
	}
	return list
}

// run works until ctx is done.
func (w *writer) run(ctx context.Context) {
	for i := range w.blobs {
		w.open(i)
	}
	for ctx.Err() == nil && !w.t.Failed() {
		w.turn.Lock()
		w.step(w.rnd.IntN(cutBlobs))
		w.turn.Unlock()
	}
	for i := range w.blobs {
		w.close(i)
	}
}

// step does one thing to blob i.
func (w *writer) step(i int) {
	b := w.blobs[i]
	switch n := w.rnd.IntN(100); {
	case n < 50: // fetch
		for first, k := w.rnd.IntN(cutFrames), w.rnd.IntN(40); k >= 0; k-- {
			if f := (first + k) % cutFrames; !b.Presence().Has(f) {
				w.must(b.Put(f, frameBytes(i, f), int64(f)*cutFrameSize))
			}
		}
	case n < 70:
		present := w.present(i)
		w.must(b.Checkpoint())
		w.promise(i, present)
	case n < 80: // evict a range
		var frames []int
		first := w.rnd.IntN(cutFrames - 200)
		for f := first; f < first+w.rnd.IntN(200); f++ {
			w.frames[i][f].takeBack()
			frames = append(frames, f)
		}
		w.forgotten += len(frames)
		w.must(b.Forget(frames...))
		if len(frames) > 0 {
			w.must(b.Punch(int64(first)*cutFrameSize, int64(len(frames))*cutFrameSize))
		}
	case n < 90: // the kernel writes back what it likes, when it likes
		fd := []int{b.Fd(), int(b.rec.f.Fd())}[w.rnd.IntN(2)]
		w.must(unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE))
	case n < 94:
		w.must(w.s.SaveState("mounts", w.state.Load()+1))
		w.state.Add(1)
	case n < 96:
		k := w.rnd.IntN(len(w.metas))
		if _, err := w.s.Meta(w.t.Context(), metaDigest(k), writes(metaText(k), nil)); err != nil {
			w.t.Error(err)
		}
		w.metas[k].give()
	case n < 97: // evict a meta
		k := w.rnd.IntN(len(w.metas))
		w.metas[k].takeBack()
		w.must(w.s.RemoveMeta(metaDigest(k)))
	case n < 99:
		w.close(i)
		w.open(i)
	default: // evict the blob, and have it again
		w.close(i)
		for f := range cutFrames {
			w.frames[i][f].takeBack()
		}
		w.must(w.s.RemoveBlob(cutBlobID(i)))
		w.open(i)
	}
}

func metaText(k int) string   { return "meta " + string(bytes.Repeat([]byte{byte('0' + k)}, 10000+k)) }
func metaDigest(k int) string { return digestOf(metaText(k)) }

// seen is what was promised before a cut.
type seen struct {
	frames [cutBlobs][cutFrames]given
	metas  [64]given
	state  int64
}

func (w *writer) look() *seen {
	s := &seen{state: w.state.Load()}
	for i := range w.frames {
		for f := range w.frames[i] {
			s.frames[i][f] = w.frames[i][f].now()
		}
	}
	for k := range w.metas {
		s.metas[k] = w.metas[k].now()
	}
	return s
}

// verdict is what was found after cuts.
type verdict struct {
	verified int64 // bytes of present frames that are right
	wrong    int   // present frames whose bytes are wrong
	lost     int   // promises that were not kept
}

// cut cuts the power, and looks at what is left.
func (w *writer) cut(d *cutdisk.Disk, seed uint64, v *verdict) {
	before := w.look()
	c := d.Cut(w.t, seed)
	w.turn.Lock() // the cut was in the middle of something; what the writer does before it is looked at costs time only
	defer w.turn.Unlock()
	c.Mount()
	defer c.Close()
	s, err := Open(c.Dir + "/store")
	if err != nil {
		w.t.Errorf("the store cannot be opened: %v", err)
		return
	}
	defer s.Close()
	for i := range cutBlobs {
		b, err := s.OpenBlob(cutBlobID(i), cutFrames*cutFrameSize, cutFrames)
		if err != nil {
			w.t.Errorf("blob %d: %v", i, err)
			continue
		}
		buf := make([]byte, cutFrameSize)
		for f := range cutFrames {
			if !b.Presence().Has(f) {
				if w.frames[i][f].holds(before.frames[i][f]) {
					v.lost++
				}
				continue
			}
			if _, err := b.ReadAt(buf, int64(f)*cutFrameSize); err != nil || !bytes.Equal(buf, frameBytes(i, f)) {
				v.wrong++
				continue
			}
			v.verified += cutFrameSize
		}
		if err := b.Close(); err != nil {
			w.t.Error(err)
		}
	}
	for k := range w.metas {
		_, err := s.Meta(w.t.Context(), metaDigest(k), writes("", errors.New("it would have to be fetched again")))
		if err != nil && w.metas[k].holds(before.metas[k]) {
			v.lost++
		}
	}
	var state int64
	if err := s.LoadState("mounts", &state); err != nil && before.state > 0 {
		w.t.Errorf("state: %v", err)
	} else if state < before.state {
		v.lost++
	}
}

// cutPower has a writer at work on a disk whose power is cut again and again.
func cutPower(t *testing.T, fstype string, n int, fdatasync func(fd int) error) verdict {
	d := cutdisk.New(t, fstype)
	s, err := Open(d.Dir + "/store")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := &writer{t: t, s: s, rnd: rand.New(rand.NewPCG(1, 2)), sync: fdatasync}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.run(ctx) })
	defer running.Wait()
	defer stop()
	var v verdict
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond) // any moment will do
		w.cut(d, uint64(i), &v)
	}
	stop()
	running.Wait()
	t.Logf("%s: %d cuts, %d checkpoints, %d frames forgotten, %d bytes verified, %d frames wrong, %d promises broken", fstype, n, w.checkpoints, w.forgotten, v.verified, v.wrong, v.lost)
	return v
}

// TestPowerCutsLoseNothingThatWasDurable cuts the power at random moments of all that is done to a store. Whatever the disk kept, what is called present must be right, and what
// was durable must be there.
func TestPowerCutsLoseNothingThatWasDurable(t *testing.T) {
	for _, fstype := range []string{"ext4", "xfs"} {
		t.Run(fstype, func(t *testing.T) {
			v := cutPower(t, fstype, cuts(t), nil)
			if v.wrong > 0 || v.lost > 0 || v.verified == 0 {
				t.Errorf("got %+v", v)
			}
		})
	}
}

// TestPowerCutsAreNoticed shows that the test above can fail: a store whose records are on the disk before the frames are is caught.
func TestPowerCutsAreNoticed(t *testing.T) {
	recordsOnly := func(fd int) error {
		if name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil || !strings.HasSuffix(name, recordSuffix) {
			return err
		}
		return unix.Fdatasync(fd)
	}
	if v := cutPower(t, "ext4", 10, recordsOnly); v.wrong == 0 {
		t.Errorf("it got away with it: %+v", v)
	}
}
