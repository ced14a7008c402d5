package monitoring

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A metric is one of docs/reference.md, which another test compares with the code.
type metric struct {
	labels []string
	help   string
}

type known struct {
	metrics map[string]metric
	reasons string // docs/dead-letters.md, which a test compares with the code
}

var metricRow = regexp.MustCompile("(?m)^\\| `(\\w+)(?:\\{([^}]*)\\})?` \\| (.*) \\|$")

func metrics(t *testing.T) known {
	t.Helper()
	reference, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons, err := os.ReadFile("../../docs/dead-letters.md")
	if err != nil {
		t.Fatal(err)
	}
	k := known{map[string]metric{}, string(reasons)}
	_, table, _ := strings.Cut(string(reference), "\n## Metrics\n")
	for _, row := range metricRow.FindAllStringSubmatch(table, -1) {
		m := metric{help: row[3]}
		if row[2] != "" {
			m.labels = strings.Split(row[2], ",")
		}
		k.metrics[row[1]] = m
	}
	return k
}

// targetLabels are what Prometheus adds to each series of a target.
var targetLabels = []string{"job", "instance", "namespace", "pod"}

// labelsOf returns the labels that the series of a name have; false: there are no such series.
func (k known) labelsOf(name string) ([]string, bool) {
	if m, ok := k.metrics[name]; ok {
		return m.labels, true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of histograms
		if m, ok := k.metrics[strings.TrimSuffix(name, suffix)]; ok {
			if suffix == "_bucket" {
				return append(slices.Clone(m.labels), "le"), true
			}
			return m.labels, true
		}
	}
	// Of Go's client for Prometheus.
	return nil, strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "go_")
}

var parsing = parser.NewParser(parser.Options{})

// check parses an expression, and makes sure that there are the metrics, labels and values that it
// names, and these labels.
func (k known) check(t *testing.T, where, expr string, alsoLabels ...string) {
	t.Helper()
	parsed, err := parsing.ParseExpr(expr)
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	has := slices.Clone(targetLabels)
	asked := alsoLabels
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			own, ok := k.labelsOf(n.Name)
			if !ok {
				t.Errorf("%s: there is no metric %s", where, n.Name)
			}
			has = append(has, own...)
			for _, m := range n.LabelMatchers {
				k.checkMatcher(t, where, n.Name, own, m)
			}
		case *parser.AggregateExpr:
			asked = append(asked, n.Grouping...)
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				asked = append(asked, n.VectorMatching.MatchingLabels...)
			}
		}
		return nil
	})
	for _, label := range asked {
		if !slices.Contains(has, label) {
			t.Errorf("%s: no metric has the label %s: %s", where, label, expr)
		}
	}
}

// checkMatcher makes sure that a metric has a label and, as far as its help says, the value.
func (k known) checkMatcher(t *testing.T, where, metric string, own []string, m *labels.Matcher) {
	t.Helper()
	switch {
	case m.Name == model.MetricNameLabel, slices.Contains(targetLabels, m.Name):
	case !slices.Contains(own, m.Name):
		t.Errorf("%s: %s has no label %s", where, metric, m.Name)
	case m.Type == labels.MatchRegexp, m.Type == labels.MatchNotRegexp:
		t.Errorf("%s: %s: name the values of %s", where, metric, m.Name)
	case !regexp.MustCompile(`\b`+regexp.QuoteMeta(m.Value)+`\b`).MatchString(k.metrics[metric].help) && !strings.Contains(k.reasons, "\n| `"+m.Value+"` |"):
		t.Errorf("%s: the label %s of %s has no value %q", where, m.Name, metric, m.Value)
	}
}
