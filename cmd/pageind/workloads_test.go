package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/pagein/pagein/bench/inputs"
	"github.com/pagein/pagein/internal/compilertree"
	"github.com/pagein/pagein/internal/erofstest"
	"github.com/pagein/pagein/internal/require"
)

// workload is what a container does, with the programs of the workloads' image.
type workload struct{ name, script string }

// workloads are the jobs that lazy image formats are announced with, and that of the metadata. What they print depends on every byte that they read.
var workloads = []workload{
	{"sequential read", "busybox sha256sum /data/large"},
	{"1,000 random files", "cd /data/small && busybox xargs busybox cat < /data/order | busybox sha256sum"},
	{"a Python program", `python3 /data/program.py`},
	{"compile and run C", "cd /tmp && gcc -O1 -o sum /data/sum.c && ./sum 4 50 600"},
	{"compare a file", "busybox cmp /data/same /elsewhere/same && echo equal"},
	{"all attributes", "for dir in usr data; do busybox find /$dir -type d -exec busybox stat -c '%n %f %u %g %Y' {} +; busybox find /$dir ! -type d -exec busybox stat -c '%N %f %s %u %g %Y %h' {} +; done | busybox sort"},
}

// pythonProgram imports much of the standard library, as programs do.
const pythonProgram = `import argparse, asyncio, collections, datetime, decimal, email.message, functools, hashlib, html, http.client, json, logging, random, re, statistics, unittest, xml.dom.minidom
r = random.Random(7)
words = [hashlib.sha256(bytes([r.randrange(256) for _ in range(64)])).hexdigest() for _ in range(1000)]
print(json.dumps({"median": statistics.median(int(w[:8], 16) for w in words), "first": sorted(words)[0], "xml": xml.dom.minidom.parseString("<a><b/></a>").toxml(), "day": str(datetime.date(2024, 2, 29))}))
`

// TestWorkloadsPrintWhatTheyDoUnderOverlayfs runs each workload from a cold start, with nothing in the store, and compares what it prints with what it prints in a container of the same image that
// containerd has unpacked. PAGEIN_WORKLOADS=full has a Debian as the image's lowest layer, and files of the sizes that others measure with: 500 MB to read and 1 GiB to compare.
func TestWorkloadsPrintWhatTheyDoUnderOverlayfs(t *testing.T) {
	r := newRuntimeLab(t)
	elsewhere := filepath.Join(r.dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	var layers []imageLayer
	if fullWorkloads() {
		debian, err := inputs.Debian(t.Context(), t.Logf)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, r.tree(debian))
	}
	layers = append(layers, r.tree(r.system()), r.tree(r.workloadData(workloadSizes{large: 24_000_000, same: 32 << 20, small: 1000}, elsewhere)))
	r.compareWithOverlayfs(workloads, layers, "--mount", "type=bind,src="+elsewhere+",dst=/elsewhere,options=rbind:ro")
}

// compareWithOverlayfs runs workloads in containers of an image with these layers.
func (r *runtimeLab) compareWithOverlayfs(workloads []workload, layers []imageLayer, options ...string) {
	r.Helper()
	image := r.push("workloads", layers...)
	r.pagein("convert", "--quiet", image)
	printed := make(map[string]string)
	run := func(snapshotter string, w workload) string {
		erofstest.DropCaches(r.lab)
		args := append([]string{"run", "--rm", "--snapshotter", snapshotter, "--env", "PATH=/usr/bin"}, options...)
		out := r.Ctr(append(args, image, fmt.Sprintf("w-%d", rand.Uint32()), "/usr/bin/busybox", "sh", "-c", w.script)...)
		if len(out) == 0 {
			r.Errorf("%s prints nothing with %s", w.name, snapshotter)
		}
		return out
	}
	for _, w := range workloads {
		r.pull(image)
		printed[w.name] = run("pagein", w)
		s := r.status()
		r.Logf("measured: %s: fetched %d of %d bytes", w.name, s.Images[0].PresentBytes, s.Images[0].TotalBytes)
		if there := r.fetched(layers...); len(there) > 0 {
			r.Errorf("%s: layers %v were fetched", w.name, there)
		}
		r.Ctr("images", "rm", "--sync", image)
		r.waitFor("the image to be forgotten", func() bool { return len(r.status().Images) == 0 })
		r.gc()
	}
	r.Ctr("images", "pull", "--plain-http", "--snapshotter", "overlayfs", image)
	for _, w := range workloads {
		if want := run("overlayfs", w); printed[w.name] != want {
			at := 0
			for at < min(len(want), len(printed[w.name])) && want[at] == printed[w.name][at] {
				at++
			}
			r.Errorf("%s prints %.200q from byte %d on, under overlayfs %.200q", w.name, printed[w.name][at:], at, want[at:])
		}
	}
}

// TestContainersRunInAGuest runs the workloads under other kernels, with what data an emulated machine can be asked to read each time, or in full.
func TestContainersRunInAGuest(t *testing.T) {
	system, err := os.ReadFile(filepath.Join(require.Guest(t), "system.tar"))
	require.Feature(t, err == nil, "a tree with Debian's Python on the guest's disk")
	r := newRuntimeLabAnywhere(t)
	elsewhere := filepath.Join(r.dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	desc := content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayer, system)
	r.compareWithOverlayfs(workloads, []imageLayer{{desc, system, desc.Digest}, r.tree(r.workloadData(workloadSizes{large: 6 << 20, same: 4 << 20, small: 100}, elsewhere))},
		"--mount", "type=bind,src="+elsewhere+",dst=/elsewhere,options=rbind:ro")
}

// fullWorkloads reports whether files are to have the sizes that others measure with.
func fullWorkloads() bool { return os.Getenv("PAGEIN_WORKLOADS") == "full" }

// system makes a tree with busybox, a compiler and Python, from what this machine has.
func (r *runtimeLab) system() (dir string) {
	r.Helper()
	require.Tool(r.lab, "gcc")
	_, err := os.Stat(compilertree.Python)
	require.Feature(r.lab, err == nil, "Debian's Python, "+compilertree.Python)
	dir = filepath.Join(r.dir, "system")
	if err := os.Mkdir(dir, 0o755); err != nil {
		r.Fatal(err)
	}
	if err := compilertree.WriteSystem(r.Context(), dir, require.Tool(r.lab, "busybox")); err != nil {
		r.Fatal(err)
	}
	return dir
}

// workloadSizes are bytes of the file that is read in order and of the one that is compared, and the number of small files.
type workloadSizes struct{ large, same, small int }

// workloadData makes a tree with the data that the workloads read, of these sizes unless they are to be full. The file to be compared is elsewhere too.
func (r *runtimeLab) workloadData(n workloadSizes, elsewhere string) (dir string) {
	r.Helper()
	if fullWorkloads() {
		n = workloadSizes{large: 500_000_000, same: 1 << 30, small: 1000}
	}
	dir = filepath.Join(r.dir, "files")
	data := filepath.Join(dir, "data")
	var errs error
	write := func(name string, data []byte) {
		errs = errors.Join(errs, os.WriteFile(name, data, 0o644))
	}
	source, sizes := rand.NewChaCha8([32]byte{11}), rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = source.Read(b)
		return b
	}
	errs = os.MkdirAll(filepath.Join(data, "small"), 0o755)
	write(filepath.Join(data, "large"), random(n.large))
	var order strings.Builder
	for _, i := range sizes.Perm(n.small) {
		fmt.Fprintln(&order, i)
		write(filepath.Join(data, "small", fmt.Sprint(i)), random(4096+sizes.IntN(12<<10)))
	}
	write(filepath.Join(data, "order"), []byte(order.String()))
	write(filepath.Join(data, "program.py"), []byte(pythonProgram))
	write(filepath.Join(data, "sum.c"), []byte(compilertree.Program))
	both := random(n.same)
	write(filepath.Join(data, "same"), both)
	write(filepath.Join(elsewhere, "same"), both)
	if errs != nil {
		r.Fatal(errs)
	}
	return dir
}

// tree makes a layer of a directory.
func (r *runtimeLab) tree(dir string) imageLayer {
	r.Helper()
	var packed bytes.Buffer
	digester := digest.SHA256.Digester()
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		r.Fatal(err)
	}
	cmd := exec.CommandContext(r.Context(), require.Tool(r.lab, "tar"), "-c", "-f", "-", "-C", dir, ".") // busybox has no more options
	cmd.Stdout = io.MultiWriter(z, digester.Hash())
	if err := errors.Join(cmd.Run(), z.Close()); err != nil {
		r.Fatalf("make a layer of %s: %v", dir, err)
	}
	return imageLayer{content.NewDescriptorFromBytes(ocispec.MediaTypeImageLayerGzip, packed.Bytes()), packed.Bytes(), digester.Digest()}
}
