package model

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// checkLabels makes sure that a file of labels has a line for each of the scores
// of a record; 0: there is no file, or it is not known how many there are.
func checkLabels(lines, scores int) error {
	why := ""
	switch {
	case lines == 0 || scores == 0 || lines == scores:
		return nil
	case lines > scores:
		why = fmt.Sprintf("; if these are the best %d of %d classes, the signature must also give which ones, "+
			"as strings or int64 in an output of the scores' shape", scores, lines)
	case lines+1 == scores:
		why = "; where the first class is the background, the file begins with a line for that"
	}
	return fmt.Errorf("labels: %d lines for %d classes%s", lines, scores, cmp.Or(why, ": the file needs a line for each class"))
}

// checkIndices makes sure that a file of labels has a line for each index.
func checkIndices(lines int, classes []Class) error {
	for _, c := range classes {
		if lines > 0 && c.Index >= lines {
			return fmt.Errorf("labels: the model gives class %d, and there are %d lines, from 0: perhaps its first class is the background, "+
				"for which the file needs a line", c.Index, lines)
		}
	}
	return nil
}

// readLabels reads the labels of the version in dir, one a line; nil: it has
// none, and answers carry the class index alone.
func readLabels(dir, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	path := filepath.Join(dir, "assets", name)
	b, err := readVersionFile(path, maxLabelsBytes)
	if err != nil {
		return nil, fmt.Errorf("labels: %w", err)
	}
	labels := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	for i := range labels {
		labels[i] = strings.TrimSpace(labels[i])
		if labels[i] == "" {
			return nil, fmt.Errorf("labels: %s: line %d is empty", path, i+1)
		}
	}
	return labels, nil
}
