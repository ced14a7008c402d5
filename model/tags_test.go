package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/model/remote/remotetest"
	"inceptor/savedmodel/tfpb"
)

// retag gives the version in dir one graph for each list of tags.
func retag(t testing.TB, dir string, lists ...[]string) {
	t.Helper()
	path := filepath.Join(dir, "saved_model.pb")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m tfpb.SavedModel
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	graph := m.GetMetaGraphs()[0]
	m.MetaGraphs = nil
	for _, tags := range lists {
		one := proto.Clone(graph).(*tfpb.MetaGraphDef)
		one.MetaInfoDef.Tags = tags
		m.MetaGraphs = append(m.MetaGraphs, one)
	}
	if b, err = proto.Marshal(&m); err != nil {
		t.Fatal(err)
	}
	write(t, path, b)
}

const tinyYAML = "input: {size: [2, 2], scale: 1, half_pixel_centers: false}\n"

// The graph is found where its tags leave no doubt; else a refusal names the line that names it.
func TestTags(t *testing.T) {
	type graphs = [][]string
	serve, gpu, tpu, train, none := []string{"serve"}, []string{"serve", "gpu"}, []string{"serve", "tpu"}, []string{"train"}, []string{}
	const file = "DIR/1/" + specFile
	for _, test := range []struct {
		name    string
		graphs  graphs
		session []string // of Config.Session
		yaml    string
		want    []string // that Explain tells; nil: refused
		refused string
	}{
		{name: "serve and gpu", graphs: graphs{gpu}, want: gpu},
		{name: "none", graphs: graphs{none}, want: none},
		{name: "the one that is not for training", graphs: graphs{train, none}, want: none},
		{name: "serve, of several", graphs: graphs{gpu, train, serve}, want: serve},
		{name: "no value", graphs: graphs{gpu}, yaml: "tags:\n", want: gpu},
		{
			name: "several", graphs: graphs{gpu, tpu},
			refused: `several of the model's graphs may be meant: it has one with the tags "serve", "gpu", one with the tags "serve", "tpu"; write "tags: [serve, gpu]" into ` + file + `, or the tags of another one`,
		},
		{name: "named, of several", graphs: graphs{gpu, tpu}, yaml: "tags: [tpu, serve]\n", want: tpu},
		{name: "none named, of several", graphs: graphs{serve, none}, yaml: "tags: []\n", want: none},
		{
			name: "training", graphs: graphs{train},
			refused: `every graph of the model is for training, where answers may differ from run to run: it has one with the tag "train"; export one for serving, with tags=["serve"]; write "tags: [train]" into ` + file + `, if it is for serving all the same`,
		},
		{name: "training named", graphs: graphs{train}, yaml: "tags: [train]\n", want: train},
		{
			name: "a graph that is not there", graphs: graphs{gpu}, yaml: "tags: [serve]\n",
			refused: file + `: line 2: tags: DIR/1/saved_model.pb: the model has no graph with the tag "serve"; it has one with the tags "serve", "gpu"; write "tags: [serve, gpu]" into ` + file,
		},
		{
			name: "none, which is not there", graphs: graphs{serve}, yaml: "tags: []\n",
			refused: `the model has no graph with no tags; it has one with the tag "serve"; write "tags: [serve]" into ` + file,
		},
		{name: "an empty tag", graphs: graphs{serve}, yaml: "tags: ['']\n", refused: file + ": line 2: tags: one is empty: write [] for the graph without tags"},
		{name: "a word", graphs: graphs{serve}, yaml: "tags: serve\n", refused: "serve is not a list"},
		{name: "of the session", graphs: graphs{serve, gpu}, session: gpu, want: gpu},
		{name: "of the session, none", graphs: graphs{serve, none}, session: none, want: none},
		{name: "of the session and named", graphs: graphs{serve, gpu}, session: gpu, yaml: "tags: [serve]\n", want: serve},
	} {
		t.Run(test.name, func(t *testing.T) {
			openLibrary(t)
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			tiny{bias: 7}.write(t, dir)
			retag(t, dir, test.graphs...)
			write(t, filepath.Join(dir, specFile), []byte(tinyYAML+test.yaml))
			c := tinyConfig(base)
			c.Session.Tags = test.session
			m := newManager(t, c, &logged{})
			err := m.Load(t.Context())
			if test.want == nil {
				reason := strings.ReplaceAll(m.Versions()[0].Reason, base, "DIR")
				if s := m.Versions()[0]; err == nil || s.Gate != GateSignature || !strings.HasSuffix(reason, test.refused) {
					t.Errorf("got %v, %s\nwant %s", err, reason, test.refused)
				}
				if e := Explain(dir, Images); strings.ReplaceAll(e.Refused, base, "DIR") != reason {
					t.Errorf("Explain: %q", e.Refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p, err := m.Classify(t.Context(), nil, blackPixel); err != nil || p.Classes[0].Score != 7 {
				t.Errorf("got %+v, %v", p, err)
			}
			if e := Explain(dir, Images); test.session == nil && !slices.Equal(e.Tags, test.want) {
				t.Errorf("Explain has %q, want %q", e.Tags, test.want)
			}
		})
	}
}

// Each version has tags of its own.
func TestTagsChange(t *testing.T) {
	b := runTiny(t, with(t, 1))
	b.awaitVersion(1)
	dir := filepath.Join(t.TempDir(), "2")
	tinyOf(2).write(t, dir)
	retag(t, dir, []string{"serve", "gpu"}, []string{"serve", "tpu"})
	write(t, filepath.Join(dir, specFile), []byte(tinyYAML+"tags: [serve, gpu]\n"))
	b.must(os.Rename(dir, b.dir(2)))
	b.awaitVersion(2)
	b.put(3, tinyOf(3))
	b.awaitVersion(3)
}

// A version with other tags tells what a model server takes that does not tell itself.
func TestTagsOfAServer(t *testing.T) {
	for _, test := range []struct {
		name, yaml string
		graphs     [][]string
		refused    string
	}{
		{"found", "", [][]string{{"train"}, {"serve", "gpu"}}, ""},
		{"named", "tags: []\n", [][]string{{}, {"gpu"}}, ""},
		{"not clear", "", [][]string{{}, {"gpu"}}, `so a version in model.dir must tell what the model takes: DIR/1/saved_model.pb: several of the model's graphs may be meant`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("tiny")
			fake.Classes, fake.PredictAlone = 2, true
			s, _ := serverOf(t, fake, true, anyVersion)
			base := s.config.Dir
			retag(t, filepath.Join(base, "1"), test.graphs...)
			write(t, filepath.Join(base, "1", specFile), []byte(tinyYAML+test.yaml))
			t.Cleanup(s.Close)
			_, err := s.Check(t.Context(), 1)
			if test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), base, "DIR"), test.refused)) {
				t.Errorf("got %v, want %q", err, test.refused)
			}
		})
	}
}
