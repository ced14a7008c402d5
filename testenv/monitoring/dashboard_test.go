package monitoring

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// A query is one of a panel.
type query struct {
	panel, expr, legend string
}

// variables are what Grafana puts in place of its variables.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*")

// queries reads the dashboard as strictly as Grafana's types allow, and returns what it asks.
func queries(t *testing.T) (all []query) {
	t.Helper()
	plugins.RegisterDefaultPlugins()
	raw, err := os.ReadFile("../../deploy/grafana/inceptor.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard.Dashboard //nolint:staticcheck // what every Grafana imports
	// It finds mistakes. Where there are none, it loses the panels, and its error is empty.
	if err := d.UnmarshalJSONStrict(raw); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		if p.Panel == nil { // a row's title
			continue
		}
		if len(p.Panel.Targets) == 0 || p.Panel.Title == nil || p.Panel.Description == nil {
			t.Errorf("a panel has no title, description or query: %+v", p.Panel)
			continue
		}
		for _, target := range p.Panel.Targets {
			q, ok := target.(*prometheus.Dataquery)
			if !ok {
				t.Fatalf("%s: the query is a %T", *p.Panel.Title, target)
			}
			legend := ""
			if q.LegendFormat != nil {
				legend = *q.LegendFormat
			}
			all = append(all, query{*p.Panel.Title, variables.Replace(q.Expr), legend})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, query{panel: a.Name, expr: variables.Replace(*a.Expr)})
	}
	return all
}

// The dashboard has a row for each thing that an operator looks at, and no two panels overlap.
func TestLayout(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/grafana/inceptor.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	var rows []string
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x > 23 {
					t.Fatalf("%q is over %q, or beyond the right edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
	if want := []string{"Traffic", "Latency", "Lag", "Versions", "Faults", "Memory"}; !slices.Equal(rows, want) {
		t.Errorf("rows %v, want %v", rows, want)
	}
}

// Each query of the dashboard names metrics and labels that there are.
func TestQueries(t *testing.T) {
	known := metrics(t)
	all := queries(t)
	for _, q := range all {
		known.check(t, q.panel, q.expr, labelsIn(q.legend)...)
	}
	if len(all) < 40 {
		t.Errorf("%d queries", len(all))
	}
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// labelsIn returns the labels that a legend shows.
func labelsIn(legend string) (labels []string) {
	for _, m := range legendLabel.FindAllStringSubmatch(legend, -1) {
		labels = append(labels, m[1])
	}
	return labels
}
