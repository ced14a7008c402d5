package model

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// The graph is found if its tags are clear; otherwise the error has the line to write.
func TestTags(t *testing.T) {
	type graphs = [][]string
	serve, gpu, tpu, train, none := []string{"serve"}, []string{"serve", "gpu"}, []string{"serve", "tpu"}, []string{"train"}, []string{}
	const file = "DIR/1/" + infer.SpecFile
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
			refused: `the model has several graphs, but none with the tag "serve" alone: it has one with the tags "serve", "gpu", one with the tags "serve", "tpu"; write "tags: [serve, gpu]" into ` + file + `, or the tags of another one`,
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
		{name: "an empty tag", graphs: graphs{serve}, yaml: "tags: ['']\n", refused: file + ": line 2: tags: a tag is empty: write [] for the graph without tags"},
		{name: "a word", graphs: graphs{serve}, yaml: "tags: serve\n", refused: "serve is not a list"},
		{name: "of the session", graphs: graphs{serve, gpu}, session: gpu, want: gpu},
		{name: "of the session, none", graphs: graphs{serve, none}, session: none, want: none},
		{name: "of the session and named", graphs: graphs{serve, gpu}, session: gpu, yaml: "tags: [serve]\n", want: serve},
	} {
		t.Run(test.name, func(t *testing.T) {
			modeltest.OpenLibrary(t)
			base := t.TempDir()
			dir := filepath.Join(base, "1")
			modeltest.Tiny{Bias: 7}.Write(t, dir)
			modeltest.Retag(t, dir, test.graphs...)
			modeltest.Write(t, filepath.Join(dir, infer.SpecFile), []byte(modeltest.TinyYAML+test.yaml))
			c := tinyConfig(base)
			c.Session.Tags = test.session
			m := newManager(t, c, &modeltest.Log{})
			err := m.Load(t.Context())
			if test.want == nil {
				reason := strings.ReplaceAll(m.Versions()[0].Reason, base, "DIR")
				if s := m.Versions()[0]; err == nil || s.Gate != infer.GateSignature || !strings.HasSuffix(reason, test.refused) {
					t.Errorf("got %v, %s\nwant %s", err, reason, test.refused)
				}
				if e := infer.Explain(dir, infer.Images, infer.SpecOverrides{}); strings.ReplaceAll(e.Refused, base, "DIR") != reason {
					t.Errorf("Explain: %q", e.Refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p, err := m.Classify(t.Context(), nil, modeltest.BlackImage); err != nil || p.Classes[0].Score != 7 {
				t.Errorf("got %+v, %v", p, err)
			}
			if e := infer.Explain(dir, infer.Images, infer.SpecOverrides{}); test.session == nil && !slices.Equal(e.Tags, test.want) {
				t.Errorf("Explain has %q, want %q", e.Tags, test.want)
			}
		})
	}
}

// Each version has tags of its own.
func TestTagsChange(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1))
	b.awaitVersion(1)
	dir := filepath.Join(t.TempDir(), "2")
	modeltest.TinyOf(2).Write(t, dir)
	modeltest.Retag(t, dir, []string{"serve", "gpu"}, []string{"serve", "tpu"})
	modeltest.Write(t, filepath.Join(dir, infer.SpecFile), []byte(modeltest.TinyYAML+"tags: [serve, gpu]\n"))
	b.must(os.Rename(dir, b.dir(2)))
	b.awaitVersion(2)
	b.put(3, modeltest.TinyOf(3))
	b.awaitVersion(3)
}
