package monitoring

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

// alerts reads the alert rules.
func alerts(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	groups, errs := rulefmt.ParseFile("../../deploy/prometheus/rules.yaml", false, model.LegacyValidation, parsing, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	for _, g := range groups.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// Each alert names metrics and labels that there are, and leads to a paragraph that says what to
// do.
func TestAlerts(t *testing.T) {
	known := metrics(t)
	raw, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	cases, err := os.ReadFile("../../deploy/prometheus/rules_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range alerts(t) {
		var shown []string
		for _, text := range r.Annotations {
			for _, m := range variable.FindAllStringSubmatch(text, -1) {
				shown = append(shown, m[1])
			}
		}
		known.check(t, r.Alert, r.Expr, shown...)
		if r.Labels["severity"] != "warning" && r.Labels["severity"] != "critical" {
			t.Errorf("%s has the severity %q", r.Alert, r.Labels["severity"])
		}
		if want := "docs/operations.md#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s has the runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		_, paragraph, found := strings.Cut(string(raw), "\n#### "+r.Alert+"\n")
		paragraph, _, _ = strings.Cut(paragraph, "\n#")
		if !found || len(paragraph) < 200 {
			t.Errorf("docs/operations.md says too little about %s: %q", r.Alert, paragraph)
		}
		fires, silent := countCases(string(cases), r.Alert)
		if fires == 0 || silent == 0 {
			t.Errorf("%s: %d cases in which it fires, and %d in which it does not", r.Alert, fires, silent)
		}
	}
}

// countCases counts the cases of promtool in which an alert fires, and in which it does not.
func countCases(cases, alert string) (fires, silent int) {
	for part := range strings.SplitSeq(cases, "- eval_time:") {
		switch {
		case !strings.Contains(part, "alertname: "+alert+"\n"):
		case strings.Contains(part, "exp_alerts:"):
			fires++
		default:
			silent++
		}
	}
	return fires, silent
}

// The alerts fire, and stay silent, as their cases say.
func TestRules(t *testing.T) {
	const promtool = "../../.tools/bin/promtool"
	if _, err := os.Stat(promtool); err != nil {
		t.Skipf("no promtool: run make setup (%v)", err)
	}
	folder := t.TempDir()
	if err := os.CopyFS(folder, os.DirFS("../../deploy/prometheus")); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(folder, "prometheus.yaml")
	content, err := os.ReadFile(config)
	if err == nil { // Debian's promtool is older than these two settings
		newer := regexp.MustCompile("  (always_scrape_classic|scrape_native)_histograms: true.*\n")
		err = os.WriteFile(config, newer.ReplaceAll(content, nil), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"check", "config", config},
		{"check", "rules", "../../deploy/prometheus/rules.yaml"},
		{"test", "rules", "../../deploy/prometheus/rules_test.yaml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
