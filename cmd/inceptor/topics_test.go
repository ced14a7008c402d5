package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// A topicSet names the topics and the group of one service, so that several can share a broker.
type topicSet struct{ input, output, deadLetter, group string }

func topicsOf(service string) topicSet {
	return topicSet{service + "-in", service + "-out", service + "-dead", service}
}

// args returns the settings that name the topics and the group.
func (s topicSet) args() []string {
	return []string{
		"--kafka.input", s.input, "--kafka.output", s.output, "--kafka.dead-letter", s.deadLetter,
		"--kafka.group", s.group,
	}
}

// id returns the id of a record of partition 0.
func (s topicSet) id(offset int) string { return fmt.Sprintf("%s-0-%d", s.input, offset) }

// position returns the partition and the offset that an id, TOPIC-PARTITION-OFFSET, names.
func position(t *testing.T, id string) (partition int32, offset int64) {
	t.Helper()
	parts := strings.Split(id, "-")
	if len(parts) < 3 {
		t.Fatalf("id %q: want TOPIC-PARTITION-OFFSET", id)
	}
	p, err := strconv.ParseInt(parts[len(parts)-2], 10, 32)
	if err != nil {
		t.Fatalf("id %q: %v", id, err)
	}
	offset, err = strconv.ParseInt(parts[len(parts)-1], 10, 64)
	if err != nil {
		t.Fatalf("id %q: %v", id, err)
	}
	return int32(p), offset
}
