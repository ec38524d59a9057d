package mkfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pagein/pagein/internal/require"

	"github.com/pagein/pagein/internal/erofstest"
)

func TestAnImageFitsWhereThereIsJustEnoughSpace(t *testing.T) {
	require.Root(t)
	// ext4 keeps what a request for space got before it failed.
	disk, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, 64<<20)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{require.Tool(t, "mkfs.ext4"), "-q", "-O", "^has_journal", disk}, {require.Tool(t, "mount"), "-o", "loop", disk, dir}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	// The inline data of so many files goes to a temporary file while the image is written.
	source := t.TempDir()
	data := make([]byte, 3000)
	random := rand.NewChaCha8([32]byte{9})
	for i := range spoolMemory/len(data) + 10 {
		random.Read(data)
		if err := os.WriteFile(filepath.Join(source, string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	large := make([]byte, 4<<20)
	random.Read(large)
	if err := os.WriteFile(filepath.Join(source, "large"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if _, err := WriteImage(t.Context(), image, dirOf(source), ImageOptions{TempDir: dir}); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, filepath.Join(erofstest.Mount(t, image), "large")); !bytes.Equal(got, large) {
		t.Error("other data")
	}
}

func TestWritesAreGatheredWithZerosBetweenThem(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := NewFileSink(f, 0, 0)
	want := make([]byte, 3000*4096)
	var writes []memoryWrite
	for block := 0; block < 3000; block++ {
		if block%1000 == 7 {
			continue // somebody else writes there
		}
		data := bytes.Repeat([]byte{byte(block) | 1}, 1+block*13%4096)
		copy(want[block*4096:], data)
		writes = append(writes, memoryWrite{int64(block) * 4096, data})
	}
	if err := s.write(writes); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, f.Name()); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, or other ones", len(got), len(want))
	}
}
