package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A presence record is two bitmaps with one bit per frame, bit 0 of byte 0 first. Little-endian, in sectors of 512 bytes, each with a CRC-32C of the rest of
// it in its last four bytes:
//
//	sector 0   header: magic "PAGEINPR", u32 version (2), u32 frames, 32 bytes blob ID; the rest is zero
//	sector n   from 1: 508 bytes of the durable bitmap, covered by the checksum together with the blob ID and u32 n, in that order
//	volatile   at the next multiple of 4096: u32 1 if it counts, u32 zero, u64 mount ID, boot ID as 36 bytes of text, zeros up to 64 bytes; then the volatile bitmap,
//	           each 32 bits of it followed by their complement
//
// A disk writes a sector whole or not at all, and a bit of the durable bitmap is set only when its frame is on the disk: whatever a power cut leaves of the
// record, every bit in a sector whose checksum fits is true. The volatile bitmap is a shared mapping. It says what is in the file as long as the kernel's cache
// is the one that it was written to. Its complement does for it what a checksum does for the other: no checksum could change in step with the bits.
const (
	recordMagic   = "PAGEINPR"
	recordVersion = 2

	sectorSize = 512
	sectorData = sectorSize - 4

	sessionSize   = 64
	sessionMount  = 8
	sessionBootID = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// session names the life of a file system's cache: while it lasts, what was written to a file is in it, on the disk or not.
type session struct {
	boot  string
	mount uint64 // unique in this boot: a file system that was unmounted meanwhile, or whose disk was lost, has another
}

// sessionOf finds out the session of the file system that holds f.
func sessionOf(f *os.File) (session, error) {
	boot, err := BootID()
	if err != nil {
		return session{}, err
	}
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID_UNIQUE, &st); err != nil {
		return session{}, fmt.Errorf("statx %s: %w", f.Name(), err)
	}
	s := session{boot: boot}
	if st.Mask&unix.STATX_MNT_ID_UNIQUE != 0 { // Linux 6.8
		s.mount = st.Mnt_id
	}
	return s, nil
}

// record is an open presence record. It is for one goroutine at a time, but for the bits of the volatile bitmap.
type record struct {
	f       *os.File
	id      [32]byte
	frames  int
	mem     []byte   // the volatile part
	words   []uint64 // the volatile bitmap, in mem
	durable []uint32 // the durable bitmap as it is to be on the disk
	stale   []bool   // by sector of the durable bitmap: the disk may have another
}

func wordsFor(frames int) int   { return (frames + 31) / 32 }
func sectorsFor(frames int) int { return (frames + 8*sectorData - 1) / (8 * sectorData) }

// layoutFor returns where the volatile part begins and how long the record is.
func layoutFor(frames int) (volatile, size int64) {
	const page = 4096
	volatile = (int64(1+sectorsFor(frames))*sectorSize + page - 1) / page * page
	return volatile, volatile + sessionSize + 8*int64(wordsFor(frames))
}

// openRecord takes over f, the record of the blob with that ID (64 hex digits). The volatile bitmap counts if it is of the session. What is damaged says
// that nothing is present.
func openRecord(f *os.File, id string, frames int, s session) (*record, error) {
	r, err := blankRecord(f, id, frames)
	if err != nil {
		return nil, err
	}
	volatile, size := layoutFor(frames)
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() != size {
		// A mapping of a sparse file dies by SIGBUS when the disk is full: have the blocks first.
		if err := errors.Join(f.Truncate(0), writeInPlace(f), unix.Fallocate(int(f.Fd()), 0, 0, size)); err != nil {
			return nil, fmt.Errorf("reserve %s: %w", f.Name(), err)
		}
	}
	// A mapping of what the disk cannot read dies by SIGBUS, too: have it in the cache first.
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, volatile, size-volatile)); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if r.mem, err = unix.Mmap(int(f.Fd()), volatile, int(size-volatile), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	if frames > 0 {
		r.words = unsafe.Slice((*uint64)(unsafe.Pointer(&r.mem[sessionSize])), len(r.durable))
	}
	sound, err := r.load()
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(r.mem))
	}
	if !sound || !r.current(s) {
		r.begin(s)
	}
	return r, nil
}

// writeInPlace has btrfs write an empty file in place from now on. Otherwise it writes a page of a mapping elsewhere each time, and when the disk is full the mapping dies although the file has
// its blocks. With the flag it lives, unless the kernel is old (tried: 6.18) or the file has been snapshotted. Other file systems write in place.
func writeInPlace(f *os.File) error {
	const compressed, nocow = 0x4, 0x800000 // FS_COMPR_FL, which a directory hands down and which excludes the other, and FS_NOCOW_FL of linux/fs.h
	fd := int(f.Fd())
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.BTRFS_SUPER_MAGIC {
		return err
	}
	flags, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, flags&^compressed|nocow)
}

// blankRecord returns a record that says nothing yet.
func blankRecord(f *os.File, id string, frames int) (*record, error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("%q is no blob ID", id)
	}
	return &record{f: f, id: [32]byte(raw), frames: frames, durable: make([]uint32, wordsFor(frames)), stale: make([]bool, sectorsFor(frames))}, nil
}

// load reads the durable bitmap, and reports whether nothing of the record is damaged. Of a new record, all that is to be written is.
func (r *record) load() (sound bool, err error) {
	raw, err := r.read()
	if err != nil {
		return false, err
	}
	if !r.parse(raw) {
		copy(raw, r.header())
		for i := range r.stale {
			copy(raw[(1+i)*sectorSize:], r.sector(i))
		}
		if _, err := r.f.WriteAt(raw, 0); err != nil {
			return false, fmt.Errorf("write %s: %w", r.f.Name(), err)
		}
		return false, nil
	}
	return !slices.Contains(r.stale, true), nil
}

// read reads header and durable bitmap. With an error, it returns what there is.
func (r *record) read() ([]byte, error) {
	raw := make([]byte, (1+len(r.stale))*sectorSize)
	if n, err := r.f.ReadAt(raw, 0); err != nil {
		return raw[:n], fmt.Errorf("read %s: %w", r.f.Name(), err)
	}
	return raw, nil
}

// parse takes the durable bitmap from what read returned, all of it absent if the header is not that of this record. Damaged sectors are absent, and stale.
func (r *record) parse(raw []byte) bool {
	if !bytes.Equal(raw[:sectorSize], r.header()) {
		return false
	}
	for i := range r.stale {
		sector := raw[(1+i)*sectorSize:][:sectorSize]
		if binary.LittleEndian.Uint32(sector[sectorData:]) != r.checksum(sector, i) {
			r.stale[i] = true
			continue
		}
		for k := range sectorData / 4 {
			if w := i*sectorData/4 + k; w < len(r.durable) {
				r.durable[w] = binary.LittleEndian.Uint32(sector[4*k:])
			}
		}
	}
	if len(r.durable) > 0 {
		r.durable[len(r.durable)-1] &= r.last()
	}
	return true
}

func (r *record) header() []byte {
	h := make([]byte, sectorSize)
	copy(h, recordMagic)
	binary.LittleEndian.PutUint32(h[8:], recordVersion)
	binary.LittleEndian.PutUint32(h[12:], uint32(r.frames))
	copy(h[16:], r.id[:])
	binary.LittleEndian.PutUint32(h[sectorData:], crc32.Checksum(h[:sectorData], castagnoli))
	return h
}

// sector returns sector i of the durable bitmap.
func (r *record) sector(i int) []byte {
	b := make([]byte, sectorSize)
	for k := range sectorData / 4 {
		if w := i*sectorData/4 + k; w < len(r.durable) {
			binary.LittleEndian.PutUint32(b[4*k:], r.durable[w])
		}
	}
	binary.LittleEndian.PutUint32(b[sectorData:], r.checksum(b, i))
	return b
}

func (r *record) checksum(sector []byte, i int) uint32 {
	sum := crc32.Checksum(sector[:sectorData], castagnoli)
	sum = crc32.Update(sum, castagnoli, r.id[:])
	return crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint32(nil, uint32(1+i)))
}

// last has the bits of the last word that stand for frames.
func (r *record) last() uint32 {
	if n := r.frames % 32; n != 0 {
		return 1<<n - 1
	}
	return ^uint32(0)
}

// current reports whether the volatile bitmap is of the session and can be true: all that is durable is in it, and nothing that does not exist.
func (r *record) current(s session) bool {
	m := r.mem[:sessionSize]
	boot := string(m[sessionBootID:][:len(s.boot)])
	mount := binary.LittleEndian.Uint64(m[sessionMount:])
	if atomic.LoadUint32(r.valid()) != 1 || boot != s.boot || mount != s.mount {
		return false
	}
	for i, durable := range r.durable {
		word, sound := unpair(atomic.LoadUint64(&r.words[i]))
		if !sound || durable&^word != 0 || i == len(r.durable)-1 && word&^r.last() != 0 {
			return false
		}
	}
	return true
}

// valid is the word that says that the volatile bitmap counts.
func (r *record) valid() *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[0])) }

// begin makes the volatile bitmap say what the durable one says, from now on in this session. It counts for nothing until all of it is there.
func (r *record) begin(s session) {
	atomic.StoreUint32(r.valid(), 0)
	for i, w := range r.durable {
		atomic.StoreUint64(&r.words[i], pair(w))
	}
	clear(r.mem[4:sessionSize])
	binary.LittleEndian.PutUint64(r.mem[sessionMount:], s.mount)
	copy(r.mem[sessionBootID:sessionSize], s.boot)
	atomic.StoreUint32(r.valid(), 1)
}

// setDurable and clearDurable change words of the durable bitmap; write brings them to the disk.
func (r *record) setDurable(word int, bits uint32) {
	if r.durable[word]&bits != bits {
		r.durable[word] |= bits
		r.stale[word/(sectorData/4)] = true
	}
}

func (r *record) clearDurable(word int, bits uint32) {
	if r.durable[word]&bits != 0 {
		r.durable[word] &^= bits
		r.stale[word/(sectorData/4)] = true
	}
}

// write brings the durable bitmap to the disk, and the volatile one with it. After an error the disk may have any of the old and new sectors, and the next write tries all
// of them again.
func (r *record) write(sync func(fd int) error) error {
	for i, stale := range r.stale {
		if !stale {
			continue
		}
		if _, err := r.f.WriteAt(r.sector(i), int64(1+i)*sectorSize); err != nil {
			return fmt.Errorf("write %s: %w", r.f.Name(), err)
		}
	}
	if err := sync(int(r.f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", r.f.Name(), err)
	}
	clear(r.stale)
	return nil
}

// close ends the session, so that only what is durable counts, and closes the record of a blob that was used last at that time.
func (r *record) close(used time.Time) error {
	atomic.StoreUint32(r.valid(), 0) // which changes the file's time
	return errors.Join(r.touch(used), unix.Munmap(r.mem), r.f.Close())
}

// touch notes when the blob was used last, zero meaning now, in the record's time of modification.
func (r *record) touch(used time.Time) error {
	if used.IsZero() {
		used = time.Now()
	}
	tv := unix.NsecToTimeval(used.UnixNano())
	if err := unix.Futimes(int(r.f.Fd()), []unix.Timeval{tv, tv}); err != nil {
		return fmt.Errorf("set the time of %s: %w", r.f.Name(), err)
	}
	return nil
}
