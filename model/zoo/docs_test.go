//go:build !race

package zoo

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// docs/tried.md names each specimen in one of its tables: served by itself, served with a line, or
// refused.
func TestZooDocs(t *testing.T) {
	b, err := os.ReadFile("../../docs/tried.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]string{} // of models, by the first word of its head
	head := ""
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		switch {
		case !strings.HasPrefix(line, "|"):
			head = ""
		case head == "":
			head = strings.Trim(cells[0], "| ")
		default:
			for _, match := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[len(cells)-1], -1) {
				if tables[match[1]] != "" {
					t.Errorf("docs/tried.md names %s twice", match[1])
				}
				tables[match[1]] = head
			}
		}
	}
	want := map[string]string{}
	for _, s := range specimens {
		works := s.works()
		alone := works && s.yaml == "" && s.content == ""
		switch {
		case alone:
			want[s.model] = "served by itself"
		case works && want[s.model] != "served by itself":
			want[s.model] = "served with a line"
		case want[s.model] == "":
			want[s.model] = "refused"
		}
	}
	names := maps.Clone(want)
	maps.Copy(names, tables)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if tables[name] != want[name] {
			t.Errorf("%s: docs/tried.md has it as %q, the table of TestZoo as %q", name, tables[name], want[name])
		}
	}
}
