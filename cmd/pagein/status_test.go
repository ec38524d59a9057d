package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pagein/pagein/node/control"
)

func TestStatusIsReadable(t *testing.T) {
	s := sampleStatus()
	for _, c := range []struct {
		status control.Status
		want   string
	}{
		{s, `pageind          v1, process 42, running for 1h0m5s
store            /var/lib/pagein
keeper           process 41
transport        auto
  fanotify       in use
  cachefiles     no: there is no /dev/cachefiles
  file           available
fetched          5.0 MiB in 1 request, 2 failed, 3 repeated, 5 asked twice
  of that        1.0 MiB for readers, 2.0 MiB ahead of them, 1.5 MiB guessed around them, 0 B prefetched, 512 KiB of no use
misses           9 answered, 4 failed, 6 waiting
  in all         half within 12ms, 99 % within 20ms, at most 31.42ms
  pageind's own  half within 90µs, 99 % within 1ms, at most 2ms
cache            10 MiB, 7.0 GiB of 10 GiB free on its disk, 64 MiB more in reserve
  limits         from 90% of the disk down to 80%, 3.0 MiB evicted
images           1; what is present counts unpacked, what was fetched since pageind started as it came, compressed

ID            TRANSPORT  STATE    PRESENT  OF       FETCHED  REF                     MOUNTED ON
abababababab  fanotify   waiting  12 MiB   300 MiB  5.0 MiB  localhost:5000/go:lazy  /mnt/go /mnt/go2

abababababab: deadline wait, prefetch none

abababababab: readers wait, it is tried again: registry localhost:5000: connection refused
`},
		{control.Status{
			Started: s.Started, Transport: "file", Problem: "no space left on device",
			Unpacked: []control.Unpacked{{Image: "localhost:5000/go:1", Reason: "no artifact is attached", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local)}},
		}, `pageind    , process 0, running for 1h0m5s
store      
keeper     none: lazy mounts through fanotify are refused
problem    no space left on device
transport  file
fetched    0 B in 0 requests, 0 failed, 0 repeated, 0 asked twice
  of that  0 B for readers, 0 B ahead of them, 0 B guessed around them, 0 B prefetched, 0 B of no use
misses     0 answered, 0 failed, 0 waiting
cache      0 B, 0 B of 0 B free on its disk
  limits   none, 0 B evicted
images     none

localhost:5000/go:1: unpacked as any other image on 2026-03-04 05:06:07: no artifact is attached

What is unpacked stays so: once the reason is gone, remove the image (ctr images rm --sync IMAGE) and pull it again.
`},
	} {
		var out strings.Builder
		if err := printStatus(&out, c.status, s.Started.Add(time.Hour+5*time.Second)); err != nil || out.String() != c.want {
			t.Errorf("%v, got:\n%s\nwant:\n%s", err, out.String(), c.want)
		}
	}
}

func TestStatusSaysWhatHoldsTheStoreAboveItsLimit(t *testing.T) {
	s := control.Status{Cache: control.Cache{
		Bytes: 230 << 20, HighBytes: 48 << 20, LowBytes: 29 << 20, OverBytes: 201 << 20, OverFiles: 1,
		Held: map[string]int64{control.HeldMounted: 30 << 20, control.HeldComplete: 200 << 20},
	}}
	var out strings.Builder
	if err := printStatus(&out, s, s.Started); err != nil {
		t.Fatal(err)
	}
	want := `  limits      from 48 MiB down to 29 MiB, 0 B evicted
  over        201 MiB and 1 inode have to go; of the store, these cannot be evicted:
    mounted   30 MiB of images that are mounted; remove those that are not needed, or see evict-mounted-ranges
    complete  200 MiB of blobs that are complete, until they are unmounted
images        none
`
	if !strings.Contains(out.String(), want) {
		t.Errorf("got:\n%s\nwant in it:\n%s", out.String(), want)
	}
}
