package infer

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

func TestTransient(t *testing.T) {
	file := func(err error) error { return &fs.PathError{Op: "open", Path: "x", Err: err} }
	for _, test := range []struct {
		name string
		err  GateError
		want bool
	}{
		{"unreadable", GateError{GateRead, file(syscall.EACCES)}, true},
		{"gone meanwhile", GateError{GateRead, file(syscall.ENOENT)}, true},
		{"folders too deep", GateError{GateRead, errors.New("x")}, false},
		{"late", GateError{GateTimeout, context.DeadlineExceeded}, true},
		{"half", GateError{GateComplete, errors.New("x")}, false},
		{"disk", GateError{GateSignature, file(syscall.EIO)}, true},
		{"too many files", GateError{GateGolden, file(syscall.EMFILE)}, true},
		{"missing file", GateError{GateGolden, file(syscall.ENOENT)}, false},
		{"memory", GateError{GateWarmUp, &savedmodel.Error{Code: savedmodel.ResourceExhausted}}, true},
		{"model", GateError{GateWarmUp, &savedmodel.Error{Code: savedmodel.InvalidArgument}}, false},
	} {
		if got := test.err.Transient(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// A graph that is not there stays away however often it is looked for; a file that
// cannot be read may be read later.
func TestGraphThatIsNotThere(t *testing.T) {
	unreadable := t.TempDir()
	modeltest.Link(t, "saved_model.pb", filepath.Join(unreadable, "saved_model.pb"))
	for name, test := range map[string]struct {
		dir, gate, text string
		transient       bool
	}{
		"another tag": {graphCopy(t, "keras", map[string]string{}), GateSignature, `the model has no graph with the tag "gpu"; it has one with the tag "serve"; write "tags: [serve]" into `, false},
		"unreadable":  {unreadable, GateRead, "saved_model.pb", true},
	} {
		_, err := readContract(test.dir, []string{"gpu"}, SpecOverrides{}, Images)
		var gate *GateError
		if !errors.As(err, &gate) || gate.Gate != test.gate || gate.Transient() != test.transient || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: got %v, want it at the gate %s, transient %v, %s", name, err, test.gate, test.transient, test.text)
		}
	}
}
