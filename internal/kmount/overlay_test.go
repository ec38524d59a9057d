package kmount

import "testing"

func TestLowerDirectoriesOfOverlaysAreFound(t *testing.T) {
	for options, shows := range map[string]map[string]bool{
		"rw,lowerdir=/a/1/fs:/a/2/fs,upperdir=/u": {"/a/1/fs": true, "/a/2/fs": true, "/u": false, "/a": false},
		"rw,lowerdir=1/fs:2/fs,upperdir=/u":       {"/snapshots/2/fs": true, "/snapshots/12/fs": false},
		"ro,lowerdir+=/a,lowerdir+=/b":            {"/a": true, "/b": true, "": false},
		"rw":                                      {"": false},
	} {
		o := Overlay{lower: lowers(options)}
		for dir, want := range shows {
			if got := o.Shows(dir); got != want {
				t.Errorf("%s shows %q: %v", options, dir, got)
			}
		}
	}
}
