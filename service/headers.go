package service

import (
	"slices"
	"strconv"
	"strings"

	"inceptor/service/stream"
)

// headerPrefix begins every header that the service adds.
const headerPrefix = "inceptor-"

// sendersHeaders returns a record's headers without those that only the service
// sets, so that an answer or dead letter has each of them once. The count of
// replays stays, because a replay sends it along; of several, the last valid one.
func sendersHeaders(headers []stream.Header) []stream.Header {
	own := func(h stream.Header) bool { return strings.HasPrefix(h.Key, headerPrefix) }
	if !slices.ContainsFunc(headers, own) { // the usual case
		return headers
	}
	kept := make([]stream.Header, 0, len(headers))
	replays := -1
	for i, h := range headers {
		if _, err := strconv.ParseUint(string(h.Value), 10, 31); h.Key == headerReplays && err == nil {
			replays = i
		}
	}
	for i, h := range headers {
		if !own(h) || i == replays {
			kept = append(kept, h)
		}
	}
	return kept
}
