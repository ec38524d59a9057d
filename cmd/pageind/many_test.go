package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/await"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
	"github.com/pagein/pagein/internal/tartest"
)

const (
	// perImage is how many containers run from one image.
	perImage = 10
	// atOnce is how many are started or deleted at the same time: a node does as many, and two cores have enough to do.
	atOnce = 8
	// longestLife is how long a daemon serves at most before it is killed: a little longer than containerd waits, who finds it gone, before it connects again.
	longestLife = 2 * time.Second
	// longerLife is how much longer the next one may: on a busy machine nothing would ever be done else.
	longerLife = longestLife / 10
	// emulatedSlower is how many times longer all takes in a guest.
	emulatedSlower = 10
)

// TestManyContainersAtOnceLeaveNothing runs containers of images that share layers, all at the same time, starts and deletes them in random order, and kills the daemon again and again
// meanwhile, and containerd once. PAGEIN_CONTAINERS is how many, 100 if it is not set, and fewer in a guest.
func TestManyContainersAtOnceLeaveNothing(t *testing.T) {
	c := newCrowd(newRuntimeLabAnywhere(t))
	r := c.runtimeLab
	before := r.idleRuntime(c.familyImage(0))
	n := number(t, "PAGEIN_CONTAINERS", 100/c.slower())
	var images []string
	for i := range max(n/perImage, 2) {
		images = append(images, c.familyImage(i))
	}

	kills := c.under(true, func() error {
		return each(images, c.fetch)
	})
	ids := make([]int, n)
	for i, id := range rand.Perm(n) {
		ids[i] = id
	}
	kills += c.under(true, func() error {
		return each(ids, func(id int) error { return c.begin(images[id%len(images)], id) })
	})
	erofstest.DropCaches(t)
	c.progress(n)
	erofstest.DropCaches(t)
	rand.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	kills += c.under(false, func() error { return each(ids, c.end) })
	if got := c.seen("ok-*"); len(got) != n {
		t.Errorf("%d of %d containers read everything", len(got), n)
	}
	if got := c.seen("bad-*"); len(got) > 0 {
		t.Errorf("they read wrong bytes: %v", got)
	}
	for _, image := range images {
		r.Ctr("images", "rm", "--sync", image)
	}
	c.forgetCutOff()
	r.nothingLeft(before)
	t.Logf("measured: %d containers of %d images; pageind was killed %d times meanwhile, and calls tried again %d times", n, len(images), kills, c.again)
}

// forgetCutOff removes the leases of clients whose call was cut off when containerd was killed: they expire after a day.
func (c *crowd) forgetCutOff() {
	c.Helper()
	for line := range strings.Lines(c.Ctr("leases", "ls")) {
		if id, _, _ := strings.Cut(line, " "); strings.Contains(line, "containerd.io/gc.expire=") {
			c.Ctr("leases", "rm", "--sync", id)
		}
	}
}

// number is a test's size, which a variable of the environment sets.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is no positive number", name, text)
	}
	return n
}

// each calls f for all, several at a time.
func each[T any](all []T, f func(T) error) error {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, v := range all {
		g.Go(func() error { return f(v) })
	}
	return g.Wait()
}

// crowd is many containers that verify what they read.
type crowd struct {
	*runtimeLab
	shared string // is /shared in all of them

	mu    sync.Mutex
	again int            // calls that failed while somebody was away
	named map[int]string // container of a number
}

func newCrowd(r *runtimeLab) *crowd {
	r.Helper()
	c := &crowd{runtimeLab: r}
	c.shared = filepath.Join(c.dir, "shared")
	if err := os.Mkdir(c.shared, 0o755); err != nil {
		r.Fatal(err)
	}
	return c
}

// slower is how many times longer all takes here than elsewhere.
func (c *crowd) slower() int {
	if os.Getenv(require.GuestEnv) != "" {
		return emulatedSlower
	}
	return 1
}

// fetch pulls an image.
func (c *crowd) fetch(image string) error {
	return c.insist(func() error {
		_, err := c.Try("images", "pull", "--plain-http", "--snapshotter", "pagein", image)
		return err
	})
}

// familyImage makes the image of a number: the first layer is that of all, the second of three, and the third and the fourth its own. Most are converted; of every tenth the layers are unpacked, which others
// have lazily.
func (c *crowd) familyImage(i int) string {
	c.Helper()
	var sums strings.Builder
	files := func(dir string, seed uint64, size int) (members []tartest.Member) {
		rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1})
		members = append(members, tartest.Directory(dir, 0o755))
		for f := range 8 {
			data := make([]byte, size)
			_, _ = rnd.Read(data)
			name := fmt.Sprintf("%s/%d", dir, f)
			sums.WriteString(digestOf(data, "/"+name))
			members = append(members, tartest.File(name, string(data)))
		}
		return members
	}
	layers := []imageLayer{c.layers[0], c.layer(files("all", 1, 8<<10)...), c.layer(files("some", 100+uint64(i/3), 16<<10)...), c.layer(files("own", 200+uint64(i), 32<<10)...)}
	layers = append(layers, c.layer(tartest.File("sums", sums.String())))
	image := c.push(fmt.Sprintf("family/%d", i), layers...)
	if i%10 != 9 {
		c.pagein("convert", "--quiet", image)
	}
	return image
}

// verify is what a container does as long as it is there: it reads everything, in another order each time, and says when all was right once more.
const verify = `cd /shared; while :; do
/bin/busybox shuf /sums > /tmp.sums
if /bin/busybox sha256sum -c -s /tmp.sums; then echo . >> ok-$0; else echo . >> bad-$0; fi
/bin/busybox sleep 2
done`

// begin starts the container of a number.
func (c *crowd) begin(image string, number int) error {
	try := 0
	return c.insist(func() error {
		try++
		id := fmt.Sprintf("c%d-%d", number, try)
		_, err := c.Try("run", "-d", "--null-io", "--snapshotter", "pagein", "--mount", "type=bind,src="+c.shared+",dst=/shared,options=rbind:rw", image, id, "/bin/busybox", "sh", "-c", verify, strconv.Itoa(number))
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.named == nil {
				c.named = make(map[int]string)
			}
			c.named[number] = id
			return nil
		}
		return errors.Join(err, c.insist(func() error { return c.discard(id) }))
	})
}

// end deletes the container of a number.
func (c *crowd) end(number int) error {
	c.mu.Lock()
	id := c.named[number]
	c.mu.Unlock()
	return c.insist(func() error { return c.discard(id) })
}

// discard removes a container, whatever of it there is.
func (c *crowd) discard(id string) error {
	absent := func(err error) bool { return err == nil || strings.Contains(err.Error(), "not found") }
	if _, err := c.Try("tasks", "rm", "-f", id); !absent(err) {
		return err
	}
	if _, err := c.Try("containers", "rm", id); !absent(err) {
		return err
	}
	if _, err := c.Try("snapshots", "--snapshotter", "pagein", "rm", id); !absent(err) {
		return err
	}
	return nil
}

// signsOfAbsence are in errors of calls during which the daemon or containerd was away.
var signsOfAbsence = []string{"navailable", "cannot access socket", "connection ", "error reading from server", "EOF"}

// insist calls f until it succeeds, as a kubelet does, while the daemon or containerd may be away.
func (c *crowd) insist(f func() error) error {
	var err error
	for end := time.Now().Add(await.Patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = f(); err == nil {
			return nil
		}
		if !slices.ContainsFunc(signsOfAbsence, func(sign string) bool { return strings.Contains(err.Error(), sign) }) {
			return err
		}
		c.mu.Lock()
		c.again++
		c.mu.Unlock()
	}
	return err
}

// under kills the daemon again and again until f ends, each a random time after it began to serve, and restarts containerd once if that is wanted. It returns how often the daemon was killed.
func (c *crowd) under(restart bool, f func() error) (kills int) {
	c.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				c.Fatal(err)
			}
			return kills
		case <-time.After(rand.N((longestLife + time.Duration(kills)*longerLife) * time.Duration(c.slower()))):
		}
		c.stop(unix.SIGKILL)
		c.serve()
		if kills++; restart && kills == 2 {
			c.Restart(c.Answers)
		}
	}
}

// seen are the files that containers wrote.
func (c *crowd) seen(pattern string) []string {
	c.Helper()
	names, err := filepath.Glob(filepath.Join(c.shared, pattern))
	if err != nil {
		c.Fatal(err)
	}
	return names
}

// progress waits until each of n containers has read everything once more.
func (c *crowd) progress(n int) {
	c.Helper()
	rounds := func() map[string]int {
		m := make(map[string]int)
		for _, name := range c.seen("ok-*") {
			b, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.Fatal(err)
			}
			m[name] = bytes.Count(b, []byte("\n"))
		}
		return m
	}
	before := rounds()
	c.waitFor("all containers to read everything", func() bool {
		more := 0
		for name, now := range rounds() {
			if now > before[name]+1 { // one may have been under way
				more++
			}
		}
		return more == n
	})
}
