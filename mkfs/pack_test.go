package mkfs

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pagein/pagein/erofs"
)

func TestFilledHolesAreBounded(t *testing.T) {
	var blocks uint64
	add := func(files int) error {
		packed, err := Pack(t.Context(), PackOptions{TempDir: t.TempDir()}, func(_ context.Context, l *Layer) error {
			l.dir = impliedDir(nil)
			for i := range files {
				size := int64(1<<40 + i)
				shape := sparse(size, []span{{size - 1, 1}})
				ino := &erofs.Inode{Mode: 0o100644, Size: size}
				if err := l.add(fmt.Sprint(i), ino, shape, bytes.NewReader(make([]byte, shape.stored()))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		blocks = uint64(packed.Devices[0].Blob.Map.Size()) / erofs.BlockSize
		return packed.Close()
	}
	if err := add(3); err != nil || blocks > 64<<20/erofs.BlockSize {
		t.Errorf("%d blocks stored, %v", blocks, err)
	}
	if err := add(4); err == nil || !strings.Contains(err.Error(), "holes of one image") {
		t.Errorf("four files: %v", err)
	}
}
