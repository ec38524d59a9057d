package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// readerCommand as the only argument makes this program a reader.
const readerCommand = "reader"

// reportEvery is how often a reader says how far it is.
const reportEvery = 200 * time.Millisecond

// readerTask is the first line of a reader's standard input; at its end the reader ends.
type readerTask struct {
	Tree   string // what the image was made from
	Target string // where it is mounted
	Seed   uint64
	Whole  bool // read everything once, instead of this and that until told to stop
}

// readerReport is a line of a reader's standard output: what was done since the line before.
type readerReport struct {
	Bytes   int64 // found to be right
	Reads   int
	Slowest time.Duration // of the reads
	Errors  []readError   `json:",omitempty"`
	Wrong   string        `json:",omitempty"` // where something else was than should be: the reader's last words
}

// readError is a read that failed.
type readError struct {
	From, Until time.Time
	What        string
}

// reader compares what an image shows with what it was made from. It opens everything relative to the image's root, so it goes on where that is unmounted lazily.
type reader struct {
	task   readerTask
	image  *os.Root
	files  []string // paths below the tree
	dirs   []string
	rnd    *rand.Rand
	report readerReport
	out    *json.Encoder
	said   time.Time
}

// errWrong ends a reader that saw what it should not.
var errWrong = errors.New("wrong")

// errGone ends a reader that came too late.
var errGone = errors.New("nothing is mounted there")

func readerMain(in io.Reader, out io.Writer) error {
	input := bufio.NewReader(in)
	line, err := input.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	r := &reader{out: json.NewEncoder(out)}
	if err := json.Unmarshal(line, &r.task); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	r.rnd = rand.New(rand.NewPCG(r.task.Seed, 1)) // #nosec G404 -- a schedule
	if err := r.list(); err != nil {
		return fmt.Errorf("list %s: %w", r.task.Tree, err)
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, input) // until its end
		close(stop)
	}()
	err = r.open()
	if errors.Is(err, errGone) {
		return nil
	} else if err == nil && r.task.Whole {
		err = r.everything()
	} else if err == nil {
		err = r.until(stop)
	}
	if err != nil && !errors.Is(err, errWrong) {
		return err
	}
	return errors.Join(err, r.out.Encode(r.report))
}

func (r *reader) list() error {
	return filepath.WalkDir(r.task.Tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.task.Tree, path)
		if d.IsDir() {
			r.dirs = append(r.dirs, name)
		} else {
			r.files = append(r.files, name)
		}
		return err
	})
}

// open opens the image's root and says so. Where no image is mounted any more, it is errGone.
func (r *reader) open() (err error) {
	if r.image, err = os.OpenRoot(r.task.Target); err != nil {
		return err
	}
	root, err := r.image.Open(".")
	if err != nil {
		return err
	}
	defer root.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(root.Fd()), &st); err != nil {
		return err
	}
	if st.Type != unix.EROFS_SUPER_MAGIC_V1 {
		return errGone
	}
	return r.out.Encode(readerReport{})
}

// everything reads all once.
func (r *reader) everything() error {
	for _, dir := range r.dirs {
		if err := r.try("list", dir, r.directory); err != nil {
			return err
		}
	}
	r.rnd.Shuffle(len(r.files), func(i, j int) { r.files[i], r.files[j] = r.files[j], r.files[i] })
	for _, name := range r.files {
		if err := r.try("read", name, r.sequentially); err != nil {
			return err
		}
	}
	return nil
}

// until reads this and that until stop is closed.
func (r *reader) until(stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		name := r.files[r.rnd.IntN(len(r.files))]
		var err error
		switch r.rnd.IntN(8) {
		case 0:
			err = r.try("list", r.dirs[r.rnd.IntN(len(r.dirs))], r.directory)
		case 1, 2:
			err = r.try("read", name, r.sequentially)
		case 3, 4:
			err = r.try("map", name, r.mapped)
		default:
			err = r.try("read part of", name, r.part)
		}
		if err != nil {
			return err
		}
	}
}

// try reads something, notes how that went, and reports from time to time. Its error is errWrong, or that nobody listens.
func (r *reader) try(what, name string, read func(name string) error) error {
	began := time.Now()
	err := read(name)
	now := time.Now()
	r.report.Reads++
	r.report.Slowest = max(r.report.Slowest, now.Sub(began))
	if errors.Is(err, errWrong) {
		r.report.Wrong = fmt.Sprintf("%s %s: %v", what, name, err)
		return err
	}
	if err != nil {
		r.report.Errors = append(r.report.Errors, readError{began, now, fmt.Sprintf("%s %s: %v", what, name, err)})
		time.Sleep(50 * time.Millisecond) // errors come fast
	}
	if now.Sub(r.said) < reportEvery {
		return nil
	}
	r.said = now
	err = r.out.Encode(r.report)
	r.report = readerReport{}
	return err
}

// directory compares a directory's names and the attributes of what is in it.
func (r *reader) directory(name string) error {
	want, err := os.ReadDir(filepath.Join(r.task.Tree, name))
	if err != nil {
		return err
	}
	dir, err := r.image.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	got, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(got, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if len(got) != len(want) {
		return fmt.Errorf("%w: %d names instead of %d", errWrong, len(got), len(want))
	}
	for i := range want {
		a, err := want[i].Info()
		if err != nil {
			return err
		}
		b, err := r.image.Lstat(filepath.Join(name, want[i].Name()))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: no %s", errWrong, want[i].Name())
		} else if err != nil {
			return err
		}
		if a.Mode() != b.Mode() || !a.ModTime().Equal(b.ModTime()) || !a.IsDir() && a.Size() != b.Size() {
			return fmt.Errorf("%w: %s has %v %v %d instead of %v %v %d", errWrong, a.Name(), b.Mode(), b.ModTime(), b.Size(), a.Mode(), a.ModTime(), a.Size())
		}
	}
	return nil
}

// sequentially compares a whole file.
func (r *reader) sequentially(name string) error {
	want, err := os.ReadFile(filepath.Join(r.task.Tree, name))
	if err != nil {
		return err
	}
	f, err := r.image.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if !r.task.Whole && r.rnd.IntN(2) == 0 {
		forget(f)
	}
	buf := make([]byte, 128<<10)
	for at := 0; ; {
		n, err := f.Read(buf)
		if err := r.compare(want, buf[:n], at); err != nil {
			return err
		}
		at += n
		if errors.Is(err, io.EOF) && at == len(want) {
			return nil
		} else if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: it ends after %d of %d bytes", errWrong, at, len(want))
		} else if err != nil {
			return err
		}
	}
}

// part compares some of a file, which the kernel is often made to forget before.
func (r *reader) part(name string) error {
	want, err := os.ReadFile(filepath.Join(r.task.Tree, name))
	if err != nil || len(want) == 0 {
		return err
	}
	f, err := r.image.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if r.rnd.IntN(4) > 0 {
		forget(f)
	}
	at := r.rnd.IntN(len(want))
	buf := make([]byte, 1+r.rnd.IntN(min(len(want)-at, 256<<10)))
	n, err := f.ReadAt(buf, int64(at))
	return errors.Join(r.compare(want, buf[:n], at), err)
}

// mapped compares some pages of a file through a mapping. What cannot be had is SIGBUS there, which becomes an error.
func (r *reader) mapped(name string) (err error) {
	want, err := os.ReadFile(filepath.Join(r.task.Tree, name))
	if err != nil || len(want) == 0 {
		return err
	}
	f, err := r.image.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	forget(f)
	got, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Munmap(got)) }()
	for range 4 {
		at := r.rnd.IntN(len(want))
		buf := make([]byte, min(len(want)-at, 16<<10))
		if err := copyMapped(buf, got[at:]); err != nil {
			return err
		}
		if err := r.compare(want, buf, at); err != nil {
			return err
		}
	}
	return nil
}

// compare counts bytes that are right. Got lies at an offset of want.
func (r *reader) compare(want, got []byte, at int) error {
	if len(got) > len(want)-at {
		return fmt.Errorf("%w: %d bytes at %d of a file of %d", errWrong, len(got), at, len(want))
	}
	for i, b := range got {
		if b != want[at+i] {
			zeros := 0
			for _, z := range got[i:] {
				if z != 0 {
					break
				}
				zeros++
			}
			return fmt.Errorf("%w: byte %d is %#x instead of %#x; %d zeros begin there", errWrong, at+i, b, want[at+i], zeros)
		}
	}
	r.report.Bytes += int64(len(got))
	return nil
}

// forget has the kernel drop what it has of a file in its page cache, unless it is in use.
func forget(f *os.File) {
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // advice
}
