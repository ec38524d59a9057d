package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// goldenUnits are the small files of the golden blob: there is one.
func goldenUnits() []Unit {
	block := make([]byte, BlockSize)
	copy(block, goldenFiles()[0])
	return []Unit{{Digest: sha256.Sum256(block), Size: BlockSize, Block: 38}}
}

func newIndex(t testing.TB, units ...Unit) *Index {
	t.Helper()
	x, err := NewIndex(units)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestIndexGivesBackItsUnitsInBlobOrder(t *testing.T) {
	units := []Unit{
		{Digest: [32]byte{3}, Size: 4096, Block: MaxSize/BlockSize - 1},
		{Digest: [32]byte{1}, Size: 8192, Block: 7},
		{Digest: [32]byte{2}, Size: MaxFrame, Block: 9},
	}
	x := newIndex(t, units...)
	if x.Units() != 3 {
		t.Fatalf("%d units", x.Units())
	}
	for i, want := range []Unit{units[1], units[2], units[0]} {
		if got := x.Unit(i); got != want {
			t.Errorf("unit %d is %+v, want %+v", i, got, want)
		}
	}
	again := newIndex(t, units[2], units[0], units[1])
	if !bytes.Equal(again.Bytes(), x.Bytes()) {
		t.Error("the order of the units changes the bytes")
	}
	if n := newIndex(t).Units(); n != 0 {
		t.Errorf("the empty index has %d units", n)
	}
}

func TestImpossibleUnitsAreRefused(t *testing.T) {
	for name, units := range map[string][]Unit{
		"empty":             {{Size: 0}},
		"negative":          {{Size: -BlockSize}},
		"half a block":      {{Size: 100}},
		"larger than frame": {{Size: MaxFrame + BlockSize}},
		"overlap":           {{Size: 8192, Block: 1}, {Size: 4096, Block: 2}},
		"behind any blob":   {{Size: 8192, Block: MaxSize/BlockSize - 1}},
		"block too large":   {{Size: 4096, Block: 1 << 32}},
	} {
		if _, err := NewIndex(units); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHostileIndexIsRefusedWithTheReason(t *testing.T) {
	good := newIndex(t, Unit{Size: 4096, Block: 1}, Unit{Size: 4096, Block: 2}).Bytes()
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		says   string
	}{
		"nothing":         {func([]byte) []byte { return nil }, "shorter"},
		"cut header":      {func(b []byte) []byte { return b[:indexHeaderLen-1] }, "shorter"},
		"magic":           {func(b []byte) []byte { b[0] = 'x'; return b }, "magic"},
		"version":         {func(b []byte) []byte { b[ixVersion] = 2; return b }, "version is 2"},
		"reserved":        {func(b []byte) []byte { b[ixReserved] = 1; return b }, "reserved"},
		"more units":      {func(b []byte) []byte { b[ixUnits] = 3; return b }, "3 units need"},
		"absurdly many":   {func(b []byte) []byte { le.PutUint32(b[ixUnits:], 1<<32-1); return b }, "at most"},
		"cut":             {func(b []byte) []byte { return b[:len(b)-1] }, "need"},
		"trailing":        {func(b []byte) []byte { return append(b, 0) }, "need"},
		"no blocks":       {func(b []byte) []byte { le.PutUint32(b[indexHeaderLen+unBlocks:], 0); return b }, "unit 0: length 0"},
		"too many blocks": {func(b []byte) []byte { le.PutUint32(b[indexHeaderLen+unBlocks:], 1<<31); return b }, "unit 0: length"},
		"overlap":         {func(b []byte) []byte { le.PutUint32(b[indexHeaderLen+unBlocks:], 2); return b }, "unit 1: begins"},
		"behind any blob": {func(b []byte) []byte { le.PutUint32(b[indexHeaderLen+unitLen+unBlock:], 1<<32-1); return b }, "no blob has"},
	} {
		if _, err := ParseIndex(c.change(bytes.Clone(good))); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error is %v, want one that says %q", name, err, c.says)
		}
	}
}

func TestUnitsMustLieWithinFrames(t *testing.T) {
	m := sampleMap(t) // frames of 2, 1 and 4096 blocks
	for name, c := range map[string]struct {
		unit Unit
		ok   bool
	}{
		"a whole frame":   {Unit{Size: 8192, Block: 0}, true},
		"part of one":     {Unit{Size: 4096, Block: 1}, true},
		"the last block":  {Unit{Size: 4096, Block: 4098}, true},
		"over a border":   {Unit{Size: 8192, Block: 1}, false},
		"over the end":    {Unit{Size: 8192, Block: 4098}, false},
		"behind the blob": {Unit{Size: 4096, Block: 4099}, false},
	} {
		if err := newIndex(t, c.unit).Check(m); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGoldenIndex(t *testing.T) {
	got := newIndex(t, goldenUnits()...).Bytes()
	path := filepath.Join("testdata", "golden.index")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the index is\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
	doc, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(want); !strings.Contains(string(doc), hex.EncodeToString(sum[:])) {
		t.Errorf("docs/format.md does not show the SHA-256 of golden.index, %x", sum)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add(newIndex(f, goldenUnits()...).Bytes())
	f.Add(newIndex(f).Bytes())
	f.Add(newIndex(f, Unit{Size: 8192, Block: 3}, Unit{Size: MaxFrame, Block: 1 << 20}).Bytes())
	m := sampleMap(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		units := make([]Unit, x.Units())
		for i := range units {
			units[i] = x.Unit(i)
			if u := units[i]; u.Size <= 0 || u.Size > MaxFrame || u.Size%BlockSize != 0 || int64(u.Block)*BlockSize+u.Size > MaxSize {
				t.Fatalf("unit %d is %+v", i, u)
			}
		}
		again, err := NewIndex(units)
		if err != nil || !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("the index's own units make another index: %v", err)
		}
		if x.Check(m) == nil {
			for _, u := range units {
				if int64(u.Block)*BlockSize+u.Size > m.Size() {
					t.Fatalf("unit %+v is not within the blob", u)
				}
			}
		}
	})
}
