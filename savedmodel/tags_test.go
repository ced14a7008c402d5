package savedmodel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

func TestChooseTags(t *testing.T) {
	type graphs = [][]string
	none, serve, gpu, train := []string{}, []string{"serve"}, []string{"serve", "gpu"}, []string{"train"}
	for _, test := range []struct {
		name    string
		graphs  graphs
		tags    []string
		want    int
		err     string // empty: none
		instead graphs
	}{
		{name: "serve", graphs: graphs{serve}},
		{name: "serve among others", graphs: graphs{train, gpu, none, serve}, want: 3},
		{name: "two of serve", graphs: graphs{serve, serve}},
		{name: "none", graphs: graphs{none}},
		{name: "another one", graphs: graphs{gpu}},
		{name: "the only one that is not for training", graphs: graphs{train, {"serve", "train"}, gpu}, want: 2},
		{name: "the same twice", graphs: graphs{train, gpu, {"gpu", "serve", "gpu"}}, want: 1},
		{
			name: "several", graphs: graphs{none, train, gpu}, instead: graphs{none, gpu},
			err: `the model has several graphs, but none with the tag "serve" alone: it has one with no tags, one with the tags "serve", "gpu"`,
		},
		{
			name: "training alone", graphs: graphs{train}, instead: graphs{train},
			err: `every graph of the model is for training, where answers may differ from run to run: it has one with the tag "train"; export one for serving, with tags=["serve"]`,
		},
		{name: "no graph", err: "the model has no graph"},
		{name: "by name", graphs: graphs{serve, gpu}, tags: []string{"gpu", "serve"}, want: 1},
		{name: "training by name", graphs: graphs{serve, train}, tags: train, want: 1},
		{name: "none by name", graphs: graphs{serve, none}, tags: none, want: 1},
		{
			name: "none by name, which is not there", graphs: graphs{gpu, train}, tags: none, instead: graphs{gpu},
			err: `the model has no graph with no tags; it has one with the tags "serve", "gpu", one with the tag "train"`,
		},
		{
			name: "serve by name, which is not there", graphs: graphs{train}, tags: serve, instead: graphs{train},
			err: `the model has no graph with the tag "serve"; it has one with the tag "train"`,
		},
		{
			name: "a part of the tags", graphs: graphs{gpu}, tags: serve, instead: graphs{gpu},
			err: `the model has no graph with the tag "serve"; it has one with the tags "serve", "gpu"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := chooseTags(test.graphs, test.tags)
			wrong := (*TagsError)(nil)
			if test.err == "" {
				if err != nil || got != test.want {
					t.Errorf("got %d, %v, want %d", got, err, test.want)
				}
			} else if !errors.As(err, &wrong) || wrong.Training != (len(forServing(test.graphs)) == 0 && len(test.graphs) > 0) || err.Error() != test.err || fmt.Sprint(wrong.Choices) != fmt.Sprint(test.instead) {
				t.Errorf("got %v, %v\nwant %s, %v", err, wrong, test.err, test.instead)
			}
		})
	}
}

// withTags writes the tiny model with other tags, and one more graph for each element of more.
func withTags(t *testing.T, tags ...[]string) string {
	t.Helper()
	dir := copyTiny(t)
	name := filepath.Join(dir, graphFile)
	b, err := os.ReadFile(name)
	must(t, err)
	var m tfpb.SavedModel
	must(t, proto.Unmarshal(b, &m))
	graph := m.MetaGraphs[0]
	m.MetaGraphs = nil
	for _, list := range tags {
		one := proto.Clone(graph).(*tfpb.MetaGraphDef)
		one.MetaInfoDef.Tags = list
		m.MetaGraphs = append(m.MetaGraphs, one)
	}
	must(t, os.WriteFile(name, []byte(message(&m)), 0o600))
	return dir
}

// Load chooses the same graph as ReadGraph, optimized or not.
func TestLoadTags(t *testing.T) {
	openLibrary(t)
	gpu, train, none := []string{"serve", "gpu"}, []string{"train"}, []string{}
	for _, test := range []struct {
		name   string
		graphs [][]string
		tags   []string
		want   []string // nil: a *TagsError
	}{
		{"found", [][]string{train, gpu}, nil, gpu},
		{"none, found", [][]string{train, none}, nil, none},
		{"none, named", [][]string{gpu, none}, none, none},
		{"training, named", [][]string{gpu, train}, train, train},
		{"several", [][]string{gpu, none}, nil, nil},
	} {
		for _, optimize := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %v", test.name, optimize), func(t *testing.T) {
				dir := withTags(t, test.graphs...)
				g, readErr := ReadGraph(dir, test.tags)
				m, err := Load(t.Context(), dir, Options{Tags: test.tags, Optimize: optimize})
				if err == nil {
					defer m.Close()
				}
				if wrong := (*TagsError)(nil); test.want == nil {
					if !errors.As(err, &wrong) || !errors.As(readErr, &wrong) {
						t.Errorf("got %v, %v", err, readErr)
					}
					return
				}
				if err != nil || readErr != nil {
					t.Fatal(err, readErr)
				}
				if !sameTags(m.Tags, test.want) || !sameTags(g.Tags, test.want) || g.Tags == nil {
					t.Errorf("loaded %q, read %q, want %q", m.Tags, g.Tags, test.want)
				}
			})
		}
	}
}
