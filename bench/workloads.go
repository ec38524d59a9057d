package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// workload is what a container of image A does.
type workload struct {
	name, prints string // prints: what it must print, "" for whatever it likes
	args         []string
	bytes        int64 // that it reads in order, if its time is to be compared with the link's

	pull   float64 // target: part of the time of a full pull at P2, 0 for none
	stargz float64 // target: part of stargz-snapshotter's time
}

// bigRandomFile is the size of image A's largest file in bytes.
const bigRandomFile = 500_000_000

// workloads are W0 to W5: nothing, an interpreter, a compiler (the image has no libc to link with), many small files, a big one, names only.
func workloads() []workload {
	small := []string{"/bin/sh", "-c", `cat "$@" >/dev/null`, "cat"}
	for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(imageAFiles)[:smallPicked] {
		small = append(small, fmt.Sprintf("/small/%04d/file-%06d", i/100, i))
	}
	return []workload{
		{name: "W0 true", args: []string{"/bin/true"}, pull: 0.02, stargz: 0.8},
		{name: "W1 python3", prints: "hello", args: []string{"/usr/bin/python3", "-c", "print('hello')"}, pull: 0.02, stargz: 0.8},
		{name: "W2 gcc", prints: "hello", pull: 0.05, stargz: 0.7, args: []string{
			"/bin/sh", "-c", `cd /tmp && echo 'int puts(const char *); int main(void) { return puts("hello"); }' >h.c && gcc -O2 -c h.c && strings h.o | grep hello`,
		}},
		{name: "W3 1,000 files", args: small, pull: 0.2, stargz: 0.6},
		{name: "W4 500 MB", args: []string{"/bin/sh", "-c", "cat /random/0000/file-000000 >/dev/null"}, bytes: bigRandomFile, stargz: 0.85},
		{name: "W5 ls -lR", args: []string{"/bin/ls", "-lR", "/usr"}, pull: 0.02, stargz: 0.6},
	}
}

// short is the first word of the name: "W0".
func (w workload) short() string {
	short, _, _ := strings.Cut(w.name, " ")
	return short
}
