package testenv

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	metricName  = regexp.MustCompile(`\binceptor_[a-z_]*[a-z]\b`)
	settingFlag = regexp.MustCompile(`--[a-z]+(?:\.[a-z-]*[a-z])+`)
	tableRow    = regexp.MustCompile(`(?m)^\| .* \|$`)
)

// Each metric and each setting that a page names is in the reference, which is made from the code.
func TestNamesInDocs(t *testing.T) {
	reference := readDoc(t, "docs/reference.md")
	for _, name := range tracked(t, "README.md", "docs/*.md") {
		if name == "docs/reference.md" {
			continue
		}
		text := readDoc(t, name)
		for _, metric := range metricName.FindAllString(text, -1) {
			if !strings.Contains(reference, "| `"+metric+"`") && !strings.Contains(reference, "| `"+metric+"{") {
				t.Errorf("%s: there is no metric %s", name, metric)
			}
		}
		for _, flag := range settingFlag.FindAllString(text, -1) {
			if !strings.Contains(reference, "`"+strings.TrimPrefix(flag, "--")+"`") {
				t.Errorf("%s: there is no setting %s", name, flag)
			}
		}
	}
}

// The rows of the README's table of numbers are rows of the page that says how they were measured.
func TestNumbersInREADME(t *testing.T) {
	_, numbers, _ := strings.Cut(readDoc(t, "README.md"), "\n## Numbers\n")
	numbers, _, _ = strings.Cut(numbers, "\n## ")
	measured := readDoc(t, "docs/benchmarks.md")
	rows := tableRow.FindAllString(strings.ReplaceAll(numbers, "](docs/", "]("), -1)
	if len(rows) < 3 {
		t.Fatalf("the README's table of numbers has %d rows", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(measured, "\n"+row+"\n") {
			t.Errorf("docs/benchmarks.md does not have this row of the README: %s", row)
		}
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
