package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// readLabels reads the labels of the version in dir, one a line; nil: it has
// none, and answers carry the class index alone.
func readLabels(dir, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	path := filepath.Join(dir, "assets", name)
	b, err := os.ReadFile(path)
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
