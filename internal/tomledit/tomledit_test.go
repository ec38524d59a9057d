package tomledit

import (
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

var edit = Edit{
	Settings: []Setting{
		{Table: []string{"plugins", "io.cri.v1"}, Key: "snapshotter", Value: `"pagein"`},
		{Table: []string{"plugins", "io.cri.v1"}, Key: "annotations", Value: `false`},
	},
	Block: "[proxy.pagein]\nkind = \"snapshot\"\n",
}

func TestSettingsAreChangedAndNothingElse(t *testing.T) {
	const block = "# pagein: begin\n[proxy.pagein]\nkind = \"snapshot\"\n# pagein: end\n"
	for _, c := range []struct{ name, file, want string }{
		{"an empty file", "", "# pagein: begin\n[plugins.\"io.cri.v1\"]\nsnapshotter = \"pagein\"\nannotations = false\n[proxy.pagein]\nkind = \"snapshot\"\n# pagein: end\n"},
		{
			"a table that lacks the keys",
			"# mine\nversion = 3\n[plugins]\n  [plugins.'io.cri.v1'] # CRI\n    other = 1\n\n[debug]\n",
			"# mine\nversion = 3\n[plugins]\n  [plugins.'io.cri.v1'] # CRI\n  snapshotter = \"pagein\" # pagein: added\n  annotations = false # pagein: added\n    other = 1\n\n[debug]\n" + block,
		},
		{
			"a table that has them",
			"[plugins.\"io.cri.v1\"]\r\n  snapshotter = 'overlayfs' # why not\r\nannotations=true\r\n",
			"[plugins.\"io.cri.v1\"]\r\n  # pagein: instead of: snapshotter = 'overlayfs' # why not\n  snapshotter = \"pagein\" # pagein: changed\r\n" +
				"# pagein: instead of: annotations=true\nannotations = false # pagein: changed\r\n" + block,
		},
		{
			"dotted keys, and no end of the line",
			"[plugins]\n\"io.cri.v1\".snapshotter = \"x\"\n\"io.cri.v1\".annotations = true",
			"[plugins]\n# pagein: instead of: \"io.cri.v1\".snapshotter = \"x\"\n\"io.cri.v1\".snapshotter = \"pagein\" # pagein: changed\n" +
				"# pagein: instead of: \"io.cri.v1\".annotations = true\n\"io.cri.v1\".annotations = false # pagein: changed\n# pagein: the line above did not end\n" + block,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Apply([]byte(c.file), edit)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("it is\n%s\nwant\n%s", got, c.want)
			}
			again, err := Apply(got, edit)
			if err != nil || string(again) != c.want {
				t.Errorf("the second time it is\n%s\n%v", again, err)
			}
			undone, err := Undo(got)
			if err != nil || string(undone) != c.file {
				t.Errorf("undone it is\n%q, want\n%q, %v", undone, c.file, err)
			}
			if !Has(got) || Has([]byte(c.file)) {
				t.Error("it is not known whether it is edited")
			}
		})
	}
}

func TestWhatCannotBeChangedLineByLineIsRefused(t *testing.T) {
	for file, want := range map[string]string{
		"plugins = {\"io.cri.v1\" = {snapshotter = \"x\"}}\n":      "line 1 has plugins in a form",
		"\n[plugins]\n\"io.cri.v1\" = {snapshotter = \"x\"}\n":     "line 3 has plugins.\"io.cri.v1\" in a form",
		"[plugins.\"io.cri.v1\"]\nsnapshotter = \"\"\"\nx\"\"\"\n": "line 2 has plugins.\"io.cri.v1\".snapshotter in a form",
		"[proxy.pagein]\nkind = 1\n":                               "no TOML any more",
		"[plugins]\n\"io.cri.v1\".other = 1\n":                     "no TOML any more",
		"[a\n":                                                     "read TOML",
		"a = 1\n# pagein: begin\nb = 1\n":                          "no \"# pagein: end\" after it",
	} {
		got, err := Apply([]byte(file), edit)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q becomes %q, %v; want an error with %q", file, got, err, want)
		}
	}
}

func TestWhatTheOwnerChangedMeanwhileStays(t *testing.T) {
	const file = "a = 1\n[plugins.\"io.cri.v1\"]\nsnapshotter = \"x\""
	for _, c := range []struct {
		name   string
		change func(edited string) string
		want   string
	}{
		{"nothing", strings.Clone, file},
		{
			"lines", strings.NewReplacer("a = 1", "a = 2", "\"pagein\" # pagein: changed", "\"y\"").Replace,
			"a = 2\n[plugins.\"io.cri.v1\"]\nsnapshotter = \"y\"",
		},
		{"the end", func(edited string) string { return edited + "[debug]\nlevel = \"info\"\n" }, file + "\n[debug]\nlevel = \"info\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Apply([]byte(file), edit)
			if err != nil {
				t.Fatal(err)
			}
			undone, err := Undo([]byte(c.change(string(got))))
			if err != nil || string(undone) != c.want {
				t.Errorf("undone it is %q, %v; want %q", undone, err, c.want)
			}
		})
	}
}

// FuzzUndoGivesBackTheFile has files of any content, which Apply refuses or changes so that all else means the same.
func FuzzUndoGivesBackTheFile(f *testing.F) {
	for _, seed := range []string{
		"", "a = 1", "a = 1\r\n", "[plugins]\n", "[plugins.\"io.cri.v1\"]\nsnapshotter='x'", "[[a]]\nb=1\n[plugins.'io.cri.v1']\n\tannotations = true # c\n",
		"# pagein: begin\n# pagein: end\n", "plugins.'io.cri.v1'.snapshotter = 2", "[plugins.\"io.cri.v1\"]\nsnapshotter=\"\"\"=\n\"\"\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if Has(file) {
			return
		}
		got, err := Apply(file, edit)
		if err != nil {
			return
		}
		undone, err := Undo(got)
		if err != nil || string(undone) != string(file) {
			t.Fatalf("%q becomes %q, and undone %q, %v", file, got, undone, err)
		}
		was, is := map[string]any{}, map[string]any{}
		if err := toml.Unmarshal(file, &was); err != nil {
			t.Fatalf("%q is no TOML, but was edited: %v", file, err)
		}
		if err := toml.Unmarshal(got, &is); err != nil {
			t.Fatal(err)
		}
		drop(was)
		if cri := drop(is); !reflect.DeepEqual(cri, map[string]any{"snapshotter": "pagein", "annotations": false}) {
			t.Fatalf("%q becomes %q", file, got)
		}
		if !reflect.DeepEqual(was, is) {
			t.Fatalf("%q becomes %q", file, got)
		}
	})
}

// drop takes out of a file what is edited, and returns it.
func drop(file map[string]any) map[string]any {
	delete(file, "proxy")
	plugins, _ := file["plugins"].(map[string]any)
	cri, _ := plugins["io.cri.v1"].(map[string]any)
	edited := map[string]any{}
	for _, key := range []string{"snapshotter", "annotations"} {
		if v, ok := cri[key]; ok {
			edited[key] = v
			delete(cri, key)
		}
	}
	if len(cri) == 0 {
		delete(plugins, "io.cri.v1")
	}
	if len(plugins) == 0 {
		delete(file, "plugins")
	}
	return edited
}
