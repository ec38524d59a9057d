package envvar

import (
	"slices"
	"testing"
)

func TestEmptyVariablesAreLeftOut(t *testing.T) {
	t.Setenv("PAGEIN_TEST_EMPTY", "")
	t.Setenv("PAGEIN_TEST_SET", "x")
	if got := Usable("PAGEIN_TEST_EMPTY", "PAGEIN_TEST_SET", "PAGEIN_TEST_UNSET"); !slices.Equal(got, []string{"PAGEIN_TEST_SET", "PAGEIN_TEST_UNSET"}) {
		t.Errorf("%v are used", got)
	}
}
