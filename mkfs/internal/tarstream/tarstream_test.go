package tarstream

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// block makes a header block with a right checksum. Fields are put at their offsets.
func block(fields map[int]string) []byte {
	b := make([]byte, blockSize)
	copy(b[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	b[156] = TypeRegular
	for off, s := range fields {
		copy(b[off:], s)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte {
	b := []byte(s)
	return append(b, make([]byte, -len(b)&(blockSize-1))...)
}

// pax makes an extended header of one type flag.
func pax(flag string, records ...string) []byte {
	var b strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for n != len(r)+2+len(fmt.Sprint(n)) {
			n = len(r) + 2 + len(fmt.Sprint(n))
		}
		fmt.Fprintf(&b, "%d %s\n", n, r)
	}
	data := b.String()
	return append(block(map[int]string{0: "pax", 124: fmt.Sprintf("%011o", len(data)), 156: flag}), padded(data)...)
}

func sized(name string, data string) []byte {
	return append(block(map[int]string{0: name, 124: fmt.Sprintf("%011o", len(data))}), padded(data)...)
}

var end = make([]byte, 2*blockSize)

func readAll(stream []byte) ([]*Header, []string, error) {
	r := NewReader(bytes.NewReader(stream))
	var headers []*Header
	var data []string
	for {
		h, err := r.Next()
		if err == io.EOF {
			return headers, data, nil
		}
		if err != nil {
			return headers, data, err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return headers, data, err
		}
		headers, data = append(headers, h), append(data, string(b))
	}
}

func TestNumbersAreReadInAllForms(t *testing.T) {
	tests := map[string]struct {
		field string
		want  int64
		fails bool
	}{
		"octal":                {"00000000755\x00", 0o755, false},
		"octal, spaces":        {"   755 \x00", 0o755, false},
		"octal, no terminator": {"777777777777", 1<<36 - 1, false},
		"empty":                {"\x00\x00\x00", 0, false},
		"base 256":             {"\x80\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01", 0x200000001, false},
		"base 256, largest":    {"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", math.MaxInt64, false},
		"base 256, negative":   {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", -2, false},
		"base 256, smallest":   {"\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\x00\x00", math.MinInt64, false},
		"base 256, too large":  {"\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00", 0, true},
		"base 256, far off":    {"\x81\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 0, true},
		"base 256, too small":  {"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 0, true},
		"not octal":            {"00000008\x00", 0, true},
		"sign":                 {"-1\x00", 0, true},
	}
	for name, tc := range tests {
		got, err := number([]byte(tc.field))
		if (err != nil) != tc.fails || got != tc.want {
			t.Errorf("%s: got %d, %v", name, got, err)
		}
	}
}

func TestTimesKeepNanosecondsAndCountUpwards(t *testing.T) {
	for in, want := range map[string]struct {
		sec  int64
		nsec uint32
	}{"0": {0, 0}, "1.5": {1, 5e8}, "-1.5": {-2, 5e8}, "-0.25": {-1, 75e7}, "7.1234567899": {7, 123456789}, "-3": {-3, 0}, "-3.000": {-3, 0}, "12.": {12, 0}} {
		sec, nsec, err := paxTime(in)
		if err != nil || sec != want.sec || nsec != want.nsec {
			t.Errorf("%q: got %d.%09d, %v", in, sec, nsec, err)
		}
	}
	for _, in := range []string{"", "x", "1.-5", "1.5x", "1e3", ".", "99999999999999999999"} {
		if _, _, err := paxTime(in); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

func TestStandardLibraryHeadersAreUnderstood(t *testing.T) {
	long := strings.Repeat("dir/", 60) + "name"
	for _, format := range []tar.Format{tar.FormatGNU, tar.FormatPAX} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h := tar.Header{Typeflag: tar.TypeSymlink, Name: long, Linkname: long + "/to", Mode: 0o4751, Uid: 1 << 22, Gid: 1 << 23, ModTime: time.Unix(1<<33, 0), Format: format}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		headers, _, err := readAll(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want := Header{Type: TypeSymlink, Name: long, Link: long + "/to", Mode: 0o4751, UID: 1 << 22, GID: 1 << 23, Mtime: 1 << 33}
		if got := *headers[0]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v: got %+v, want %+v", format, got, want)
		}
	}
}

func TestExtensionsOverrideTheHeader(t *testing.T) {
	stream := slices.Concat(
		pax("g", "mtime=5", "uid=7", "comment=x"),
		pax("x", "path=first", "uid=", "SCHILY.xattr.user.a%3D%25=v=\n", "LIBARCHIVE.xattr.user.b%20c=AQI"), sized("short", "one"),
		pax("x", "size=3", "mtime=9.25"), sized("second", "two"),
		end)
	headers, data, err := readAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	first := Header{Type: TypeRegular, Name: "first", Mode: 0o644, Size: 3, Mtime: 5,
		Xattrs: []Xattr{{"user.a=%", []byte("v=\n")}, {"user.b c", []byte{1, 2}}}}
	second := Header{Type: TypeRegular, Name: "second", Mode: 0o644, UID: 7, Size: 3, Mtime: 9, MtimeNsec: 25e7}
	if fmt.Sprint(*headers[0]) != fmt.Sprint(first) || fmt.Sprint(*headers[1]) != fmt.Sprint(second) || !slices.Equal(data, []string{"one", "two"}) {
		t.Errorf("got %+v, %+v, %q", *headers[0], *headers[1], data)
	}
}

func TestGlobalHeadersCostEachMemberNothing(t *testing.T) {
	repeated := slices.Repeat([]string{"uid=1"}, 100_000)
	repeated[len(repeated)-1] = "uid=7"
	stream := slices.Concat(
		pax("g", "SCHILY.xattr.user.big="+strings.Repeat("v", 1_000_000)),
		pax("g", "LIBARCHIVE.xattr.user.big="+strings.Repeat("A", 1_000_000)),
		pax("g", "GNU.sparse.map="+strings.Repeat("0,0,", 200_000)+"0,0"),
		pax("g", repeated...))
	r := NewReader(bytes.NewReader(append(stream, slices.Repeat(sized("f", ""), 1000)...)))
	first, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Xattrs) != 0 || first.Sparse || first.UID != 7 {
		t.Errorf("%d attributes, sparse %v, owner %d", len(first.Xattrs), first.Sparse, first.UID)
	}
	if len(r.globals) != 1 {
		t.Errorf("%d global records are applied to each member", len(r.globals))
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for ; err == nil; n++ {
		_, err = r.Next()
	}
	runtime.ReadMemStats(&after)
	if err != io.EOF || n != 1000 {
		t.Fatalf("after %d members: %v", n, err)
	}
	if each := (after.TotalAlloc - before.TotalAlloc) / 1000; each > 8<<10 {
		t.Errorf("each member allocates %d bytes", each)
	}
}

func TestOldWritersAreUnderstood(t *testing.T) {
	ustar := map[int]string{0: "name", 257: "ustar\x0000", 345: "prefix"}
	star := map[int]string{0: "name", 257: "ustar\x0000", 345: "prefix", 476: "times", 508: "tar\x00"}
	v7dir := map[int]string{0: "dir/", 156: "\x00", 329: "garbage"}
	headers, _, err := readAll(slices.Concat(block(ustar), block(star), block(v7dir), end))
	if err != nil {
		t.Fatal(err)
	}
	if headers[0].Name != "prefix/name" || headers[1].Name != "prefix/name" || headers[2].Type != TypeDir {
		t.Errorf("got %+v %+v %+v", headers[0], headers[1], headers[2])
	}
}

func TestStreamsThatAreWrongAreRefused(t *testing.T) {
	good := sized("a", "data")
	tests := map[string]struct {
		stream []byte
		want   string
	}{
		"size far too large":       {append(block(map[int]string{0: "a", 124: "77777777777"}), end...), "unexpected EOF"},
		"negative size":            {block(map[int]string{124: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}), "negative"},
		"negative uid":             {block(map[int]string{108: "\xff\xff\xff\xff\xff\xff\xff\xff"}), "uid"},
		"uid that chown ignores":   {block(map[int]string{108: "\x80\x00\x00\x00\xff\xff\xff\xff"}), "uid"},
		"huge extended header":     {block(map[int]string{124: "00010000001", 156: "x"}), "at most"},
		"bad record length":        {append(block(map[int]string{124: "00000000005", 156: "x"}), padded("9 a=\n")...), "PAX header"},
		"record without key":       {append(block(map[int]string{124: "00000000005", 156: "x"}), padded("5 =b\n")...), "no key"},
		"too many attributes":      {slices.Concat(pax("x", attributes(maxXattrs+1, 1)...), sized("a", ""), end), "at most 1024 of"},
		"attributes too large":     {slices.Concat(pax("x", attributes(5, 60<<10)...), sized("a", ""), end), "extended attributes of"},
		"header at the end":        {append(pax("x", "path=y"), end...), "extended header stands at the end"},
		"lone zero block":          {slices.Concat(make([]byte, blockSize), good), "zero block"},
		"type":                     {block(map[int]string{156: "M"}), "multi-volume"},
		"unknown type":             {block(map[int]string{156: "Z"}), "not supported"},
		"device out of range":      {block(map[int]string{156: "3", 257: "ustar\x0000", 329: "7777777\x00"}), "device number"},
		"sparse, overlapping":      {slices.Concat(pax("x", "GNU.sparse.size=9", "GNU.sparse.map=0,3,2,1"), sized("a", "data"), end), "out of order"},
		"sparse, beyond the end":   {slices.Concat(pax("x", "GNU.sparse.size=3", "GNU.sparse.map=0,4"), sized("a", "data"), end), "outside"},
		"sparse, overflow":         {slices.Concat(pax("x", "GNU.sparse.size=9223372036854775807", "GNU.sparse.map=9223372036854775807,1"), sized("a", "d"), end), "outside"},
		"sparse, other length":     {slices.Concat(pax("x", "GNU.sparse.size=30", "GNU.sparse.map=0,5"), sized("a", "data"), end), "runs of 5"},
		"sparse, no size":          {slices.Concat(pax("x", "GNU.sparse.map=0,4"), sized("a", "data"), end), "size"},
		"sparse, unknown":          {slices.Concat(pax("x", "GNU.sparse.major=2", "GNU.sparse.minor=0"), sized("a", "data"), end), "not known"},
		"sparse, numbytes first":   {slices.Concat(pax("x", "GNU.sparse.numbytes=2"), sized("a", "data"), end), "no offset"},
		"sparse 1.0, huge count":   {slices.Concat(pax("x", "GNU.sparse.major=1", "GNU.sparse.minor=0"), sized("a", "99999999\n"+strings.Repeat("0\n", 300)), end), "at most"},
		"sparse 1.0, endless line": {slices.Concat(pax("x", "GNU.sparse.major=1", "GNU.sparse.minor=0"), sized("a", strings.Repeat("1", 600)), end), "too long"},
		"sparse 1.0, no map":       {slices.Concat(pax("x", "GNU.sparse.major=1", "GNU.sparse.minor=0"), sized("a", ""), end), "map"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			headers, _, err := readAll(tc.stream)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v and error %v, want %q", headers, err, tc.want)
			}
		})
	}
}

// attributes are PAX records of n extended attributes.
func attributes(n, size int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("SCHILY.xattr.user.%d=%s", i, strings.Repeat("v", size)))
	}
	return all
}

func TestEveryCutInsideAMemberIsNoticed(t *testing.T) {
	stream := slices.Concat(pax("x", "path=y"), sized("a", "data"), sized("b", strings.Repeat("x", 600)))
	borders := []int{0, 3*blockSize + blockSize, len(stream)}
	for cut := range stream {
		_, _, err := readAll(stream[:cut])
		if slices.Contains(borders, cut) != (err == nil) || (err != nil && !errors.Is(err, io.ErrUnexpectedEOF)) {
			t.Errorf("cut at %d of %d: error %v", cut, len(stream), err)
		}
	}
	r := NewReader(bytes.NewReader(append(stream, end...)))
	for {
		if _, err := r.Next(); err != nil {
			break
		}
	}
	if !r.Terminated() {
		t.Error("the end marker was not seen")
	}
}

func FuzzReader(f *testing.F) {
	f.Add(slices.Concat(pax("x", "path=y"), sized("a", "data"), end))
	f.Add(slices.Concat(pax("x", "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=10"), sized("a", "1\n0\n4\n"), end))
	f.Add(block(map[int]string{156: "S", 386: "00000000000\x0000000000001\x00", 482: "\x01", 483: "00000000010\x00"}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		headers, data, _ := readAll(stream)
		for i, d := range data {
			h, end, stored := headers[i], int64(0), int64(0)
			for _, s := range h.Spans {
				if s.Off < end || s.Len <= 0 || s.Off+s.Len > h.Size {
					t.Fatalf("%+v", h)
				}
				end = s.Off + s.Len
				stored += s.Len
			}
			if h.Type == TypeRegular && !h.Sparse {
				stored = h.Size
			}
			if int64(len(d)) != stored {
				t.Fatalf("%d bytes of data for %+v", len(d), h)
			}
		}
	})
}
