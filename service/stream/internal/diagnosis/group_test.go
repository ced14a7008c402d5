package diagnosis

import (
	"fmt"
	"strings"
	"testing"
)

// The error for a group that rebalances names the members that it waits for.
func TestGroupWait(t *testing.T) {
	var many []string
	for i := range 25 {
		many = append(many, fmt.Sprintf("m%02d", i))
	}
	for name, test := range map[string]struct {
		state   string
		members []string
		want    string // empty: nothing is waited for
	}{
		"stable":        {"Stable", []string{"a"}, ""},
		"empty":         {"Empty", nil, ""},
		"not told":      {"", nil, ""},
		"slow members":  {"PreparingRebalance", []string{"b (/10.0.0.2)", "a (/10.0.0.1)"}, "joins again, or its rebalance timeout ends: a (/10.0.0.1), b (/10.0.0.2)"},
		"a slow leader": {"CompletingRebalance", []string{"a"}, "assigns the partitions: one of a"},
		"many members":  {"PreparingRebalance", many, "m09, and 15 more"},
	} {
		t.Run(name, func(t *testing.T) {
			err := GroupWait("g", test.state, test.members)
			if (err == nil) != (test.want == "") || err != nil && (!strings.HasSuffix(err.Error(), test.want) || !strings.Contains(err.Error(), "group g ")) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
