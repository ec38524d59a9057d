package trace

import "testing"

func TestContainersAreFoundByTheirControlGroups(t *testing.T) {
	const id = "d2b0a4d1c7f94f2e8f5c2f9f4a1b2c3d4e5f60718293a4b5c6d7e8f901234567"
	for name, c := range map[string]struct {
		groups, id string
		in         bool
		unified    string
	}{
		"containerd, both hierarchies": {"5:pids:/default/" + id + "\n0::/default/" + id + "\n", id, true, "/default/" + id},
		"by the beginning":             {"0::/default/" + id + "\n", id[:12], true, "/default/" + id},
		"too short a beginning":        {"0::/default/" + id + "\n", id[:11], false, ""},
		"a name":                       {"0::/default/web\n", "web", true, "/default/web"},
		"another name":                 {"0::/default/web2\n", "web", false, ""},
		"CRI, systemd": {
			"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + id + ".scope\n", id[:16], true,
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-" + id + ".scope",
		},
		"a group below it":       {"0::/docker/" + id + "/init\n", id, true, "/docker/" + id},
		"systemd's notation":     {"3:cpu:/system.slice:docker:" + id + "\n0::/\n", id, true, ""},
		"no container":           {"0::/user.slice/user-0.slice/session-1.scope\n", id, false, ""},
		"damage":                 {"0:\n\n::", id, false, ""},
		"the pod of a container": {"0::/kubepods/pod" + id + "/" + id[1:] + "\n", id, false, ""},
	} {
		if in, unified := membership(c.groups, c.id); in != c.in || unified != c.unified {
			t.Errorf("%s: %v %q", name, in, unified)
		}
	}
	for _, bad := range []string{"", "a/b", "there-is-no-such-container"} {
		if c, err := FindContainer(bad); err == nil {
			t.Errorf("found %+v as %q", c, bad)
		}
	}
}
