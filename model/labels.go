package model

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Labels says where the words of classes are. In inceptor.yaml it is the name of a file
// alone, or {file: FILE, offset: N, names: FILE}.
type Labels struct {
	// File has a label for each class, and lies in assets or beside saved_model.pb. Empty:
	// there is none.
	File string
	// Offset is the class of the file's first label: class i has label i - Offset.
	Offset int
	// Names is a file like File, with the words of the WordNet ids that File has: lines such as
	// "n01440764<TAB>tench". Empty: there is none.
	Names string
}

// UnmarshalYAML takes both forms.
func (l *Labels) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	wrong := func(at *yaml.Node) error {
		return fmt.Errorf("line %d: labels: want the name of a file, or {file: FILE, offset: N, names: FILE}", at.Line)
	}
	*l = Labels{}
	switch node.Kind {
	case yaml.ScalarNode:
		l.File = node.Value
		return nil
	case yaml.MappingNode:
	default:
		return wrong(node)
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Value == "" {
			return wrong(value)
		}
		switch key.Value {
		case "file":
			l.File = value.Value
		case "names":
			l.Names = value.Value
		case "offset":
			n, err := strconv.Atoi(value.Value)
			if err != nil {
				return fmt.Errorf("line %d: labels.offset: %s is not a whole number", value.Line, value.Value)
			}
			l.Offset = n
		default:
			return wrong(key)
		}
	}
	if l.File == "" {
		return wrong(node)
	}
	return nil
}

// line is the line of inceptor.yaml that says the same.
func (l Labels) line() string {
	if l.Offset == 0 && l.Names == "" {
		return "labels: " + yamlWord(l.File)
	}
	parts := []string{"file: " + yamlWord(l.File)}
	if l.Offset != 0 {
		parts = append(parts, fmt.Sprintf("offset: %d", l.Offset))
	}
	if l.Names != "" {
		parts = append(parts, "names: "+yamlWord(l.Names))
	}
	return "labels: {" + strings.Join(parts, ", ") + "}"
}

// validateLabels checks what can be told without the files.
func (s Spec) validateLabels() (errs []error) {
	for _, one := range []struct{ key, file string }{{"labels", s.Labels.File}, {"labels.names", s.Labels.Names}} {
		if one.file != "" && !filepath.IsLocal(one.file) {
			errs = append(errs, s.wrong(one.key, "%q is not a file in assets", one.file))
		}
	}
	if n := s.Labels.Offset; n < -maxLabels || n > maxLabels {
		errs = append(errs, s.wrong("labels.offset", "%d is not between %d and %d", n, -maxLabels, maxLabels))
	}
	return errs
}

// A labelsError says that labels are not for the classes that a model gives.
type labelsError struct {
	reason string
	moved  int  // what added to the offset mends it, if a background is the cause; 0: nothing
	few    bool // there are fewer than classes
}

func (e *labelsError) Error() string { return e.reason }

// mend adds to a *labelsError the line of inceptor.yaml that mends it; other errors stay. write says
// where that line is written.
func (l Labels) mend(err error, write func(line string) string) error {
	wrong := (*labelsError)(nil)
	if !errors.As(err, &wrong) {
		return err
	}
	l.Offset += wrong.moved
	switch {
	case wrong.moved > 0:
		return fmt.Errorf("%w; where the first class is the background, %s", err, write(l.line()))
	case wrong.moved < 0:
		return fmt.Errorf("%w; where the first label is that of a background, which is no class of the model, %s", err, write(l.line()))
	case wrong.few:
		return fmt.Errorf("%w; for answers with numbers alone, %s", err, write("labels: ''"))
	}
	return err // a place among the best few is no class's number
}

// checkLabels makes sure that there is a label for each of the scores of a record; 0 labels:
// there is no file; 0 scores: it is not known how many there are. Its error is a *labelsError.
func checkLabels(labels, scores int) error {
	if labels == 0 || scores == 0 || labels == scores {
		return nil
	}
	e := &labelsError{reason: fmt.Sprintf("labels: %d lines for %d classes", labels, scores), few: labels < scores}
	if e.few {
		e.reason += ": the file needs a line for each class"
	} else {
		e.reason += fmt.Sprintf("; if these are the best %d of %d classes, the signature must also give which ones, "+
			"as strings or int64 in an output of the scores' shape", scores, labels)
	}
	if by := scores - labels; by == 1 || by == -1 {
		e.moved = by
	}
	return e
}

// checkIndices makes sure that the labels reach to each class that a model gives. Its error is
// a *labelsError.
func checkIndices(labels int, classes []Class) error {
	for _, c := range classes {
		if labels > 0 && c.Index >= labels {
			return &labelsError{fmt.Sprintf("labels: the model gives class %d, and there are %d lines, from 0", c.Index, labels), 1, true}
		}
	}
	return nil
}

// labelsPath is the path of a file of labels below a version's directory: in assets or, where
// it is only there, beside saved_model.pb.
func labelsPath(dir, name string) string {
	inAssets := filepath.Join("assets", name)
	if _, err := os.Stat(filepath.Join(dir, inAssets)); err != nil {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return inAssets
}

// readLabels reads the labels of the version in dir: that of class i is number i, and empty
// for a class below the offset. nil: there are none, and answers have the numbers of classes
// alone.
func readLabels(dir string, from Labels) ([]string, error) {
	if from.File == "" {
		return nil, nil
	}
	path := filepath.Join(dir, labelsPath(dir, from.File))
	labels, err := readLabelFile(path)
	if err == nil && from.Names != "" {
		err = nameIDs(labels, filepath.Join(dir, labelsPath(dir, from.Names)))
	} else {
		cutIDs(labels)
	}
	if err == nil && -from.Offset >= len(labels) {
		err = fmt.Errorf("%s: an offset of %d leaves none of its %d labels", path, from.Offset, len(labels))
	}
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	if from.Offset < 0 {
		return labels[-from.Offset:], nil
	}
	return append(make([]string, from.Offset), labels...), nil
}
