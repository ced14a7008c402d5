package infer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLabels bounds the labels of a version, and their offset.
const maxLabels = 1 << 20

// readLabelFile reads a file of labels in one of the forms that parseLabels reads.
func readLabelFile(path string) ([]string, error) {
	b, err := readTextFile(path)
	if err != nil {
		return nil, err
	}
	labels, err := parseLabels(b, strings.EqualFold(filepath.Ext(path), ".json"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return labels, nil
}

// readTextFile reads a text in UTF-8 that a version has, without the byte order mark that some
// editors write.
func readTextFile(path string) ([]byte, error) {
	b, err := readVersionFile(path, maxLabelsBytes)
	if err != nil {
		return nil, err
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	if !utf8.Valid(b) {
		return nil, fmt.Errorf("%s is not UTF-8: save it as UTF-8", path)
	}
	return b, nil
}

// parseLabels reads labels, from class 0 on, from JSON or from lines. If all lines begin with
// numbers and these are the numbers of all classes, they say which class a label is for and are not
// part of it.
func parseLabels(b []byte, isJSON bool) ([]string, error) {
	b = bytes.TrimRight(b, "\r\n")
	if len(b) == 0 {
		return nil, errors.New("it is empty")
	}
	object, list := bytes.HasPrefix(b, []byte("{")), bytes.HasPrefix(b, []byte("["))
	switch {
	case (isJSON || object || list) && json.Valid(b):
		return jsonLabels(b)
	case isJSON:
		return nil, errors.New("it is not JSON")
	case object:
		return nil, errors.New("it begins with { but is not JSON: write JSON, or a label on each line")
	}
	lines, err := splitLines(b)
	if err != nil {
		return nil, err
	}
	byNumber := make([]string, len(lines))
	for _, line := range lines {
		n, label, ok := cutNumber(line)
		if !ok || n >= len(lines) || byNumber[n] != "" {
			return lines, nil
		}
		byNumber[n] = label
	}
	return byNumber, nil
}

// splitLines returns the lines of a text. An empty line is an error.
func splitLines(b []byte) ([]string, error) {
	if n := bytes.Count(b, []byte("\n")) + 1; n > maxLabels {
		return nil, fmt.Errorf("it has %d lines, over the limit of %d", n, maxLabels)
	}
	lines := strings.Split(string(b), "\n")
	for i := range lines {
		if lines[i] = strings.TrimSpace(lines[i]); lines[i] == "" {
			return nil, fmt.Errorf("line %d is empty", i+1)
		}
	}
	return lines, nil
}

// cutNumber cuts a line such as "3 cat", "3: cat" or "3:cat" in two; false: it is no such line.
func cutNumber(line string) (n int, label string, ok bool) {
	digits := 0
	for digits < len(line) && line[digits] >= '0' && line[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(line[:digits])
	rest := line[digits:]
	label = strings.TrimLeft(rest, " \t")
	if after, colon := strings.CutPrefix(label, ":"); colon {
		label = strings.TrimLeft(after, " \t")
	} else if len(label) == len(rest) {
		return 0, "", false // nothing is between them
	}
	return n, label, err == nil && label != ""
}

var errFormOfJSON = errors.New(`want ["cat", …], {"0": "cat", …}, {"cat": 0, …} or {"0": ["n02123394", "cat"], …}`)

// jsonLabels reads labels from valid JSON: a list, or an object whose keys or values are the
// numbers of classes. The second of a pair is the label, as in imagenet_class_index.json.
func jsonLabels(b []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	open, err := d.Token()
	if err != nil || open != json.Delim('{') && open != json.Delim('[') {
		return nil, errFormOfJSON
	}
	var labels []numberedLabel
	for d.More() {
		if len(labels) == maxLabels {
			return nil, fmt.Errorf("it has more than %d labels", maxLabels)
		}
		key := strconv.Itoa(len(labels))
		if open == json.Delim('{') {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			key = token.(string) //nolint:forcetypeassert // keys are strings
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		one, err := jsonLabel(key, value, open == json.Delim('['))
		if err != nil {
			return nil, err
		}
		labels = append(labels, one)
	}
	return orderLabels(labels)
}

// A numberedLabel is a label with the number of its class.
type numberedLabel struct {
	class int
	label string
}

// jsonLabel reads a member of an object, or an element of a list, whose key is its index. Only the
// key of an object may be the label.
func jsonLabel(key string, value json.RawMessage, inList bool) (one numberedLabel, err error) {
	var (
		word   string
		pair   []string
		number = key
	)
	switch {
	case len(value) > 2*maxWordBytes:
		return one, fmt.Errorf("a label has more than %d bytes", maxWordBytes)
	case json.Unmarshal(value, &word) == nil && value[0] == '"':
	case json.Unmarshal(value, &pair) == nil && len(pair) == 2:
		word = pair[1]
	case inList:
		return one, fmt.Errorf("%.40q is not a label: %w", value, errFormOfJSON)
	default:
		word, number = key, string(value)
	}
	one.label = strings.TrimSpace(word)
	one.class, err = strconv.Atoi(number)
	switch {
	case err != nil || one.class < 0 || one.class >= maxLabels:
		return one, fmt.Errorf("%.40q is not the number of a class: %w", number, errFormOfJSON)
	case one.label == "":
		return one, fmt.Errorf("the label of class %d is empty", one.class)
	}
	return one, nil
}

// orderLabels puts labels in the order of their classes. The first classes may have none.
func orderLabels(labels []numberedLabel) ([]string, error) {
	if len(labels) == 0 {
		return nil, errors.New("it has no labels")
	}
	first := labels[0].class
	for _, one := range labels {
		first = min(first, one.class)
	}
	placed := make([]string, first+len(labels))
	for _, one := range labels {
		if one.class < len(placed) {
			if placed[one.class] != "" {
				return nil, fmt.Errorf("class %d has two labels, %.40q and %.40q", one.class, placed[one.class], one.label)
			}
			placed[one.class] = one.label
		}
	}
	for class, label := range placed[first:] {
		if label == "" {
			return nil, fmt.Errorf("class %d has no label, but later classes have", first+class)
		}
	}
	return placed, nil
}

// cutID cuts the WordNet id off a label such as "n01440764 tench"; false: it begins with none.
func cutID(label string) (id, words string, ok bool) {
	const digits = 8
	if len(label) <= digits || label[0] != 'n' || strings.Trim(label[1:1+digits], "0123456789") != "" {
		return "", "", false
	}
	id, words = label[:1+digits], label[1+digits:]
	if words != "" && words[0] != ' ' && words[0] != '\t' {
		return "", "", false
	}
	return id, strings.TrimSpace(words), true
}

// cutIDs cuts the WordNet ids off all labels, if each has an id and words. The first label may be
// the background's, without an id.
func cutIDs(labels []string) {
	plain := make([]string, len(labels))
	for i, label := range labels {
		_, words, ok := cutID(label)
		if words == "" && (ok || i > 0 || len(labels) == 1) {
			return
		}
		plain[i] = words
	}
	for i, words := range plain {
		if words != "" {
			labels[i] = words
		}
	}
}

// plainLabel cuts the number and the WordNet id off a line of a file of labels, as they are cut off
// if all lines have them.
func plainLabel(line string) string {
	if _, label, ok := cutNumber(line); ok {
		line = label
	}
	if _, words, ok := cutID(line); ok && words != "" {
		line = words
	}
	return line
}

// onlyIDs tells whether labels, except perhaps the first, are WordNet ids without words.
func onlyIDs(labels []string) bool {
	if len(labels) == 0 {
		return false
	}
	_, words, ok := cutID(labels[len(labels)-1])
	return ok && words == ""
}

// nameIDs replaces WordNet ids by the words that a file has for them. A label without an id stays.
func nameIDs(labels []string, path string) error {
	b, err := readTextFile(path)
	if err != nil {
		return err
	}
	lines, err := splitLines(bytes.TrimSpace(b))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	names := make(map[string]string, len(lines))
	for i, line := range lines {
		id, words, ok := cutID(line)
		if !ok || words == "" {
			return fmt.Errorf(`%s: line %d is not a WordNet id and words, such as "n01440764<TAB>tench"`, path, i+1)
		}
		names[id] = words
	}
	for i, label := range labels {
		id, _, ok := cutID(label)
		if !ok {
			continue
		}
		if labels[i] = names[id]; labels[i] == "" {
			return fmt.Errorf("%s: it has no line for %s, the label of class %d", path, id, i)
		}
	}
	return nil
}
