package fallback

import (
	"path/filepath"
	"strings"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
	"inceptor/model/remote/remotetest"
)

// A version with other tags says what the model takes on a server that does not say it itself.
func TestTagsOfAServer(t *testing.T) {
	for _, test := range []struct {
		name, yaml string
		graphs     [][]string
		refused    string
	}{
		{"found", "", [][]string{{"train"}, {"serve", "gpu"}}, ""},
		{"named", "tags: []\n", [][]string{{}, {"gpu"}}, ""},
		{"not clear", "", [][]string{{}, {"gpu"}}, `so a version in model.dir must say what the model takes: DIR/1/saved_model.pb: the model has several graphs, but none with the tag "serve" alone`},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := remotetest.NewFake("tiny")
			fake.Classes, fake.PredictAlone = 2, true
			base := t.TempDir()
			s, _ := serverOf(t, fake, base, anyVersion)
			modeltest.Retag(t, filepath.Join(base, "1"), test.graphs...)
			modeltest.Write(t, filepath.Join(base, "1", infer.SpecFile), []byte(modeltest.TinyYAML+test.yaml))
			t.Cleanup(s.Close)
			_, err := s.Check(t.Context(), 1)
			if test.refused == "" && err != nil || test.refused != "" && (err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), base, "DIR"), test.refused)) {
				t.Errorf("got %v, want %q", err, test.refused)
			}
		})
	}
}
