package store

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheLatestRecordingsAreKept(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	image, other := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	for i := range maxRecordings + 3 {
		if err := s.SaveRecording(image, time.Unix(int64(i), 0), i); err != nil {
			t.Fatal(err)
		}
	}
	for i := range maxAllRecordings {
		if err := s.SaveRecording(other[:60]+strings.Repeat("0", 3)+string('0'+byte(i%10)), time.Unix(int64(10+i), 0), i); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Recordings(image); err != nil || len(got) != maxRecordings {
		t.Fatalf("%d recordings, %v", len(got), err)
	} else if string(got[0]) != "3" || string(got[7]) != "10" {
		t.Errorf("kept are %s", got)
	}
	if err := s.SaveRecording(image, time.Unix(1000, 0), strings.Repeat("x", maxRecording)); err == nil {
		t.Error("a recording without bounds is kept")
	}
	damaged := filepath.Join(s.Root(), recordingsDir, image+"-99999999999999999999.json")
	if err := os.WriteFile(damaged, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Recordings(image); err != nil || len(got) != maxRecordings || !json.Valid(got[len(got)-1]) {
		t.Errorf("%s, %v", got, err)
	}
}
