package infer

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Labels says which files have the labels of classes. In inceptor.yaml it is the name of a file
// alone, or {file: FILE, offset: N, names: FILE}.
type Labels struct {
	// File has a label for each class. It lies in assets or beside saved_model.pb. Empty: there
	// are no labels.
	File string
	// Offset is the class of the file's first label: class i has label i - Offset.
	Offset int
	// Names is a file like File, with the words for the WordNet ids that File has, in lines such
	// as "n01440764<TAB>tench". Empty: there is none.
	Names string
}

// UnmarshalYAML takes both forms.
func (l *Labels) UnmarshalYAML(node *yaml.Node) error {
	scalars, err := scalarOrKeys(node, "labels: want the name of a file, or {file: FILE, offset: N, names: FILE}", "file", "offset", "names")
	if err != nil {
		return err
	}
	*l = Labels{File: scalars["file"].Value}
	if names := scalars["names"]; names != nil {
		l.Names = names.Value
	}
	if offset := scalars["offset"]; offset != nil {
		if l.Offset, err = strconv.Atoi(offset.Value); err != nil {
			return fmt.Errorf("line %d: labels.offset: %s is not a whole number", offset.Line, offset.Value)
		}
	}
	return nil
}

// yamlLine returns the line of inceptor.yaml that says the same.
func (l Labels) yamlLine() string {
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

// validateLabels checks what can be checked without the files.
func (s Spec) validateLabels() (errs []error) {
	for _, one := range []struct{ key, file string }{{"labels", s.Labels.File}, {"labels.names", s.Labels.Names}} {
		if one.file != "" && !filepath.IsLocal(one.file) {
			errs = append(errs, s.errorAt(one.key, "%q is not a file in assets", one.file))
		}
	}
	if n := s.Labels.Offset; n < -maxLabels || n > maxLabels {
		errs = append(errs, s.errorAt("labels.offset", "%d is not between %d and %d", n, -maxLabels, maxLabels))
	}
	return errs
}

// A labelsError says that the labels do not fit the model's classes.
type labelsError struct {
	reason string
	shift  int  // of the offset, with which they would fit if a background is the cause; 0: none
	tooFew bool // there are fewer labels than classes
}

func (e *labelsError) Error() string { return e.reason }

// addHint adds to a *labelsError which line of inceptor.yaml would help, and leaves other errors as
// they are. suggest says where to write a line.
func (l Labels) addHint(err error, suggest func(line string) string) error {
	wrong := (*labelsError)(nil)
	if !errors.As(err, &wrong) {
		return err
	}
	l.Offset += wrong.shift
	switch {
	case wrong.shift > 0:
		return fmt.Errorf("%w; if the first class is the background, %s", err, suggest(l.yamlLine()))
	case wrong.shift < 0:
		return fmt.Errorf("%w; if the first label is for the background, which is not a class of the model, %s", err, suggest(l.yamlLine()))
	case wrong.tooFew:
		return fmt.Errorf("%w; for answers without labels, %s", err, suggest("labels: ''"))
	}
	return err // with scores of the best few classes, a score's place is not its class
}

// checkLabels makes sure that there are as many labels as a record has scores. 0 labels: there is
// no file. 0 scores: their number is not known. Its error is a *labelsError.
func checkLabels(labels, scores int) error {
	if labels == 0 || scores == 0 || labels == scores {
		return nil
	}
	e := &labelsError{reason: fmt.Sprintf("labels: %d labels for %d classes", labels, scores), tooFew: labels < scores}
	if e.tooFew {
		e.reason += ": the file needs a label for each class"
	} else {
		e.reason += fmt.Sprintf("; if these are the best %d of %d classes, export the signature with an output that says which ones, "+
			"as strings or int64 of the scores' shape", scores, labels)
	}
	if by := scores - labels; by == 1 || by == -1 {
		e.shift = by
	}
	return e
}

// checkIndices makes sure that each class of an answer has a label. Its error is a *labelsError.
func checkIndices(labels int, classes []Class) error {
	for _, c := range classes {
		if labels > 0 && c.Index >= labels {
			return &labelsError{fmt.Sprintf("labels: the model answers with class %d, and the %d labels are for the classes from 0", c.Index, labels), 1, true}
		}
	}
	return nil
}

// labelsPath returns the path of a file of labels below a version's directory: in assets or, if it
// is only there, beside saved_model.pb.
func labelsPath(dir, name string) string {
	inAssets := filepath.Join("assets", name)
	if _, err := os.Stat(filepath.Join(dir, inAssets)); err != nil {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name
		}
	}
	return inAssets
}

// ReadLabels returns the labels of the version in dir, by class; nil: its files have none. It needs
// no TensorFlow.
func ReadLabels(dir string, content Content) ([]string, error) {
	c, err := readContract(dir, nil, SpecOverrides{}, cmp.Or(content, Images))
	return c.labels, err
}

// readLabels reads the labels of the version in dir. Label i is for class i; it is empty for a
// class below the offset. nil: there are none, and answers have the numbers of classes only.
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
