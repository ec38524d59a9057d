package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pagein/pagein/internal/require"
)

// programs are the containerds that are configured, by the series.
func programs(t *testing.T) map[string]string {
	t.Helper()
	program := require.Tool(t, "containerd")
	old := filepath.Join(filepath.Dir(program), "containerd-1.7", "containerd")
	_, err := os.Stat(old)
	require.Feature(t, err == nil, "containerd 1.7 (hack/deps.sh builds it)")
	return map[string]string{"1.7": old, "2": program}
}

func needs(cri bool) Needs {
	return Needs{Name: "pagein", Address: "/run/pagein/containerd.sock", Root: "/var/lib/pagein/snapshotter", CRI: cri}
}

// generated is the configuration that many start from: what containerd prints as its defaults.
func generated(t *testing.T, program string) string {
	t.Helper()
	out, err := exec.Command(program, "config", "default").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// configs are configurations as operators have them, by the series they are for; "" is for all.
var configs = []struct {
	name, series, config string
	conf                 map[string]string // files in conf.d
	cri                  bool              // Kubernetes can use the snapshotter
	beside               bool              // it is done in a file in conf.d
}{
	{name: "none", config: "none", cri: true},
	{name: "the defaults, written out", config: "generated", cri: true},
	{name: "Docker's", config: "#   Copyright 2018-2022 Docker Inc.\n\ndisabled_plugins = [\"cri\"]\n\n#[grpc]\n"},
	{
		name: "Kubernetes', for containerd 1", config: "version = 2\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    sandbox_image = \"pause:1\"\n" +
			"    [plugins.\"io.containerd.grpc.v1.cri\".containerd]\n      default_runtime_name = \"runc\"\n      snapshotter = \"native\"\n", cri: true,
	},
	{
		name: "Kubernetes', for containerd 2", series: "2", config: "version = 3\nimports = [\"conf.d/*.toml\"]\n[plugins.'io.containerd.cri.v1.images']\n  discard_unpacked_layers = true",
		conf: map[string]string{"a.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nenable_selinux = true\n"}, cri: true, beside: true,
	},
	{
		name: "with entries of its own", config: "version = 2\n[proxy_plugins.stargz]\ntype = \"snapshot\"\naddress = \"/x\"\n" +
			"[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\nplatform = \"linux/amd64\"\nsnapshotter = \"native\"\ndiffer = \"walking\"\n# the end\n", cri: true,
	},
	{
		name: "whose sections are replaced by files beside it", series: "1.7", config: "version = 2\nimports = [\"conf.d/*.toml\"]\n[plugins.\"io.containerd.transfer.v1.local\"]\nconfig_path = \"/x\"\n",
		conf: map[string]string{"a.toml": "version = 2\n[debug]\nlevel = \"debug\"\n"}, cri: true,
	},
	{
		name: "with a file of that name beside it", config: "version = 2\nimports = [\"conf.d/*.toml\"]\n",
		conf: map[string]string{"pagein.toml": "version = 2\n[debug]\nlevel = \"debug\"\n"}, cri: true,
	},
}

// TestConfigurationsGetWhatIsNeededAndCanBeHadBack compares what containerd makes of them, which Plan does, too.
func TestConfigurationsGetWhatIsNeededAndCanBeHadBack(t *testing.T) {
	for series, program := range programs(t) {
		for _, c := range configs {
			for _, cri := range []bool{false, true} {
				if c.series != "" && c.series != series || cri && !c.cri {
					continue
				}
				name := series + "/" + c.name
				if cri {
					name += " and Kubernetes"
				}
				t.Run(name, func(t *testing.T) {
					dir := t.TempDir()
					containerd := Containerd{Program: program, Config: filepath.Join(dir, "config.toml")}
					text := c.config
					if text == "generated" {
						text = strings.ReplaceAll(generated(t, program), "/etc/containerd", dir)
					}
					files := map[string]string{}
					if text != "none" {
						files["config.toml"] = text
					}
					for name, text := range c.conf {
						files["conf.d/"+name] = text
					}
					for name, text := range files {
						write(t, filepath.Join(dir, name), text)
					}
					changed := apply(t, containerd, needs(cri))
					if got := len(changed) == 1 && filepath.Dir(changed[0]) != dir; got != c.beside {
						t.Errorf("it changes %s", changed)
					}
					if again, err := containerd.Plan(t.Context(), needs(cri)); err != nil || len(again) != 1 || !again[0].None() {
						t.Errorf("it is not done yet: %v", err)
					}
					checkDump(t, containerd, needs(cri), !strings.Contains(text, "unpack_config"))
					undo(t, containerd)
					checkFiles(t, dir, files)
				})
			}
		}
	}
}

// apply plans and makes the changes, and returns which files they are of.
func apply(t *testing.T, c Containerd, n Needs) (paths []string) {
	t.Helper()
	changes, err := c.Plan(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		paths = append(paths, change.Path)
		if err := change.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// undo takes out what is installed, in one file.
func undo(t *testing.T, c Containerd) {
	t.Helper()
	installed, err := c.Installed()
	if err != nil || len(installed) != 1 {
		t.Fatalf("installed in %v, %v", installed, err)
	}
	if err := installed[0].Apply(); err != nil {
		t.Fatal(err)
	}
}

// TestWhatIsInstalledMovesWhenItsPlaceChanges has a configuration that gets a directory for files beside it, and a containerd that is replaced by an older one, which cannot merge such.
func TestWhatIsInstalledMovesWhenItsPlaceChanges(t *testing.T) {
	const alone, beside = "version = 2\n[plugins.\"io.containerd.transfer.v1.local\"]\nconfig_path = \"/x\"\n", "imports = [\"conf.d/*.toml\"]\n"
	dir, programs := t.TempDir(), programs(t)
	c := Containerd{Program: programs["2"], Config: filepath.Join(dir, "config.toml")}
	write(t, c.Config, alone)
	for _, step := range []struct {
		name, series string
		imports      string // what is added to the configuration
		want         []string
	}{
		{"first", "2", "", []string{"config.toml"}},
		{"with a directory", "2", beside, []string{"config.toml", "conf.d/pagein.toml"}},
		{"with an older containerd", "1.7", "", []string{"conf.d/pagein.toml", "config.toml"}},
	} {
		c.Program = programs[step.series]
		text, err := os.ReadFile(c.Config)
		if err != nil {
			t.Fatal(err)
		}
		write(t, c.Config, step.imports+string(text))
		write(t, filepath.Join(dir, "conf.d", "a.toml"), "version = 2\n[debug]\nlevel = \"debug\"\n")
		changed := apply(t, c, needs(true))
		for i := range changed {
			if changed[i], err = filepath.Rel(dir, changed[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(changed, step.want) {
			t.Errorf("%s it changes %q, want %q", step.name, changed, step.want)
		}
		checkDump(t, c, needs(true), true)
	}
	undo(t, c)
	checkFiles(t, dir, map[string]string{"config.toml": beside + alone, "conf.d/a.toml": "version = 2\n[debug]\nlevel = \"debug\"\n"})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
}

// checkDump looks into what containerd says of its real configuration. Without entries of its own it is to unpack for what the built-in ones are for.
func checkDump(t *testing.T, c Containerd, n Needs, builtin bool) {
	t.Helper()
	out, err := exec.Command(c.Program, "--config", c.Config, "config", "dump").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{n.Address, n.Root, "enable_remote_snapshot_annotations"}
	if n.CRI {
		want = append(want, "snapshotter = \"pagein\"")
	}
	text := strings.ReplaceAll(string(out), "'", "\"")
	dump, err := c.read(t.Context(), "--config", c.Config, "config", "dump")
	if err != nil {
		t.Fatal(err)
	}
	proxies, _ := dump["proxy_plugins"].(table)
	proxy, declared := proxies[n.Name].(table)
	if can, _ := proxy["capabilities"].([]any); !declared || len(can) > 0 { // with "rebase" it would be asked for layers of which nobody says what is below
		t.Errorf("the plugin is declared as %v", proxy)
	}
	if r, err := c.release(t.Context()); err != nil {
		t.Fatal(err)
	} else if builtin {
		want = append(want, "snapshotter = \"overlayfs\"")
		if r.atLeast(2, 3) {
			want = append(want, "snapshotter = \"erofs\"")
		}
	}
	if n.CRI {
		transfers := strings.Contains(text, "use_local_image_pull") && !strings.Contains(text, "discard_unpacked_layers = true")
		want = append(want, "disable_snapshot_annotations = "+strconv.FormatBool(transfers))
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("containerd does not say %q", w)
		}
	}
}

// checkFiles compares the files in a directory, and their modes.
func checkFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	seen := 0
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		seen++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want[name] || info.Mode().Perm() != 0o640 {
			t.Errorf("%s has mode %v and is\n%s\n%v", name, info.Mode(), got, err)
		}
		return nil
	})
	if err != nil || seen != len(want) {
		t.Errorf("there are %d files, not %d; %v", seen, len(want), err)
	}
}

func TestConfigurationsThatCannotBeChangedAreRefused(t *testing.T) {
	for series, program := range programs(t) {
		for _, c := range []struct {
			name, series, config, want string
			beside, conf               string // a file in conf.d
			cri                        bool
		}{
			{name: "broken", config: "version = 2\n[a", want: "config.toml: read TOML"},
			{name: "of schema 1, for Kubernetes", config: "[debug]\nlevel = \"info\"\n", want: "has no version, or version 1", cri: true},
			{name: "with another snapshotter of that name", config: "version = 2\n[proxy_plugins.pagein]\ntype = \"snapshot\"\naddress = \"/x\"\n", want: "no TOML any more"},
			{name: "in inline tables", config: "version = 2\nplugins = {\"io.containerd.grpc.v1.cri\" = {containerd = {snapshotter = \"native\"}}}\n", want: "write it as a table", cri: true},
			{
				name: "overridden beside it", series: "1.7", config: "version = 2\nimports = [\"conf.d/z*.toml\"]\n", beside: "z.toml",
				conf: "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"native\"\n", want: "a file that the configuration imports overrides it", cri: true,
			},
			{
				name: "with another snapshotter of that name in a file that has ours", config: "version = 2\nimports = [\"conf.d/*.toml\"]\n", beside: "pagein.toml",
				conf: "version = 2\n[proxy_plugins.pagein]\ntype = \"snapshot\"\naddress = \"/x\"\n", want: "something else overrides",
			},
		} {
			if c.series != "" && c.series != series {
				continue
			}
			t.Run(series+"/"+c.name, func(t *testing.T) {
				dir := t.TempDir()
				files := map[string]string{"config.toml": c.config}
				if c.conf != "" {
					files["conf.d/"+c.beside] = c.conf
				}
				for name, text := range files {
					write(t, filepath.Join(dir, name), text)
				}
				containerd := Containerd{Program: program, Config: filepath.Join(dir, "config.toml")}
				change, err := containerd.Plan(t.Context(), needs(c.cri))
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("it is changed to %v, %v; want an error with %q", change, err, c.want)
				}
				checkFiles(t, dir, files)
			})
		}
	}
}

func TestPageindServesWhereItIsConfiguredTo(t *testing.T) {
	for _, c := range []struct {
		name, config  string
		service       string // of images
		address, root string
		changed       bool
	}{
		{"without a configuration", "", "", "/run/pagein/containerd.sock", "/var/lib/pagein/snapshotter", true},
		{"with another root", "root = \"/data\"\n[trust]\n", "", "/run/pagein/containerd.sock", "/data/snapshotter", true},
		{"with an address", "[snapshotter]\naddress = \"unix:///x.sock\"\nroot = \"/y\"\n", "", "/x.sock", "/y", false},
		{"with an address, for kubelet", "[snapshotter]\naddress = \"unix:///x.sock\"\nroot = \"/y\"\n", "unix:///c.sock", "/x.sock", "/y", true},
		{"with all, for kubelet", "[snapshotter]\naddress = \"unix:///x.sock\"\nroot = \"/y\"\nimage-service = \"unix:///d.sock\"\n", "/c.sock", "/x.sock", "/y", false},
		{"of a second daemon", "root = \"/b\"\nrun = \"/run/b\"\n", "", "/run/b/containerd.sock", "/b/snapshotter", true},
		{"with the table only", "[snapshotter]\nroot = \"/y\"\n", "", "/run/pagein/containerd.sock", "/y", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.toml")
			files := map[string]string{}
			if c.config != "" {
				files["config.toml"] = c.config
				write(t, path, c.config)
			}
			p, change, err := PlanPageind(path, c.service)
			if err != nil {
				t.Fatal(err)
			}
			if p.Address != c.address || p.Root != c.root || change.None() == c.changed {
				t.Errorf("it is %+v, to be changed: %v", p, !change.None())
			}
			if err := change.Apply(); err != nil {
				t.Fatal(err)
			}
			if again, now, err := PlanPageind(path, c.service); err != nil || again != p || !now.None() {
				t.Errorf("then it is %+v, %v", again, err)
			}
			undo, err := Undo(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := undo.Apply(); err != nil {
				t.Fatal(err)
			}
			checkFiles(t, filepath.Dir(path), files)
		})
	}
}

func TestContainerdsConfigurationIsSeenAsContainerdReadsIt(t *testing.T) {
	for series, program := range programs(t) {
		c := Containerd{Program: program, Config: filepath.Join(t.TempDir(), "config.toml")}
		if seen, err := c.See(t.Context()); err != nil || seen.Address != "" || len(seen.Proxies) > 0 {
			t.Errorf("%s: without a file it is %+v, %v", series, seen, err)
		}
		write(t, c.Config, "version = 2\nimports = [\"conf.d/*.toml\"]\n[grpc]\naddress = \"/x.sock\"\n")
		write(t, filepath.Join(filepath.Dir(c.Config), "conf.d", "a.toml"), "version = 2\n[proxy_plugins]\nb = {type = \"snapshot\", address = \"/b\"}\na = {type = \"snapshot\", address = \"/a\"}\n")
		if seen, err := c.See(t.Context()); err != nil || seen.Address != "/x.sock" || !slices.Equal(seen.Proxies, []string{"a", "b"}) {
			t.Errorf("%s: it is %+v, %v", series, seen, err)
		}
	}
}

func TestAFileThatChangedMeanwhileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	_, change, err := PlanPageind(path, "")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "root = \"/x\"\n")
	if err := change.Apply(); err == nil || !strings.Contains(err.Error(), "somebody else has changed it") {
		t.Errorf("it says %v", err)
	}
	checkFiles(t, filepath.Dir(path), map[string]string{"config.toml": "root = \"/x\"\n"})
}
