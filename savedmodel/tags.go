package savedmodel

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	servingTag  = "serve"
	trainingTag = "train"
)

// A TagsError says why no graph of a saved_model.pb can be chosen by its tags.
type TagsError struct {
	reason string
	// Instead lists the tags that would choose a graph.
	Choices  [][]string
	Training bool // all graphs in Instead are for training
}

// Error returns the reason, with the tags that the model has.
func (e *TagsError) Error() string { return e.reason }

// chooseTags returns the index of the graph that Options.Tags choose; graphs holds the tags of each
// graph. The error is a *TagsError.
func chooseTags(graphs [][]string, want []string) (int, error) {
	exactly := func(tags []string) int {
		return slices.IndexFunc(graphs, func(has []string) bool { return sameTags(has, tags) })
	}
	if want != nil {
		if i := exactly(want); i >= 0 {
			return i, nil
		}
		fit := forServing(graphs)
		e := &TagsError{reason: fmt.Sprintf("the model has no graph with %s; it has %s", tagList(want), tagLists(graphs)), Choices: fit}
		if fit == nil {
			e.Choices, e.Training = graphs, true
		}
		return 0, e
	}
	if i := exactly([]string{servingTag}); i >= 0 {
		return i, nil
	}
	switch fit := forServing(graphs); {
	case len(fit) == 1:
		return exactly(fit[0]), nil
	case len(fit) > 1:
		return 0, &TagsError{reason: "the model has several graphs, but none with the tag \"serve\" alone: it has " + tagLists(fit), Choices: fit}
	case len(graphs) == 0:
		return 0, &TagsError{reason: "the model has no graph"}
	}
	return 0, &TagsError{
		reason: fmt.Sprintf("every graph of the model is for training, where answers may differ from run to run: it has %s; "+
			"export one for serving, with tags=[%q]", tagLists(graphs), servingTag),
		Choices: graphs, Training: true,
	}
}

// forServing returns the tags of the graphs that are not for training, without repetition.
func forServing(graphs [][]string) (fit [][]string) {
	for _, tags := range graphs {
		known := slices.ContainsFunc(fit, func(has []string) bool { return sameTags(has, tags) })
		if !known && !slices.Contains(tags, trainingTag) {
			fit = append(fit, tags)
		}
	}
	return fit
}

// sameTags compares tags as TensorFlow does, without regard to order and repetition.
func sameTags(a, b []string) bool {
	set := func(tags []string) []string { return slices.Compact(slices.Sorted(slices.Values(tags))) }
	return slices.Equal(set(a), set(b))
}

// tagLists lists graphs by their tags, for a person.
func tagLists(graphs [][]string) string {
	lists := make([]string, len(graphs))
	for i, tags := range graphs {
		lists[i] = "one with " + tagList(tags)
	}
	return strings.Join(lists, ", ")
}

// tagList lists the tags of a graph, for a person.
func tagList(tags []string) string {
	switch len(tags) {
	case 0:
		return "no tags"
	case 1:
		return fmt.Sprintf("the tag %q", tags[0])
	}
	quoted := make([]string, len(tags))
	for i, tag := range tags {
		quoted[i] = strconv.Quote(tag)
	}
	return "the tags " + strings.Join(quoted, ", ")
}

// tagsOf returns the tags of each graph. A graph without tags gives an empty list, not nil.
func tagsOf(graphs []parsedGraph) [][]string {
	all := make([][]string, len(graphs))
	for i, g := range graphs {
		all[i] = append([]string{}, g.def.GetMetaInfoDef().GetTags()...)
	}
	return all
}

// loadedTags returns the tags of the graph in dir that Options.Tags choose, never nil. If the file
// cannot be read, it guesses, and TensorFlow's loader reports what is wrong.
func loadedTags(dir string, tags []string) ([]string, error) {
	if tags != nil {
		return tags, nil
	}
	guess := []string{servingTag}
	f, err := os.Open(filepath.Join(dir, graphFile))
	if err != nil {
		return guess, nil
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return guess, nil
	}
	graphs, err := walkGraphs(f, st.Size(), func(*parsedGraph, *wireReader, int64) error { return nil })
	if err != nil || len(graphs) == 0 {
		return guess, nil
	}
	all := tagsOf(graphs)
	i, err := chooseTags(all, nil)
	if err != nil {
		return nil, err
	}
	return all[i], nil
}
