package page

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// data is what a section's template gets.
type data struct {
	View
	Latest Sample // empty, without a lag: there is none yet
	Local  bool   // the viewer sits at this machine, and may change the model
}

// How much of the lists is shown at once. The rest is left out, or folded.
const (
	eventsShown     = 6
	partitionsShown = 8
	classesShown    = 3
)

// How much of the lists is rendered at all: the rest is counted.
const (
	maxPartitions   = 200
	maxVersions     = 50 // besides those that answer, and as many that rest
	maxStuckReasons = 20
	maxStuckNames   = 10
)

// A part is what is rendered of a list, and how many more there are.
type part[T any] struct {
	List []T
	More int
}

// partOf returns the first items of a list, at most so many.
func partOf[T any](list []T, most int) part[T] {
	shown := min(len(list), most)
	return part[T]{list[:shown:shown], len(list) - shown}
}

// Worst is the severity of the worst problem; ok: there is none.
func (d data) Worst() string {
	if len(d.Problems) == 0 {
		return "ok"
	}
	for _, p := range d.Problems {
		if p.Severity == SeverityError {
			return SeverityError
		}
	}
	return SeverityWarning
}

// DeadLetterRate is the dead letters a second, of all reasons.
func (s Sample) DeadLetterRate() (sum float64) {
	for _, rate := range s.DeadLetters {
		sum += rate
	}
	return sum
}

// LoadedVersions are those that answer, get loaded or have failed; the others only lie in the
// directory. All that answer are in the list.
func (d data) LoadedVersions() (p part[Version]) {
	others := 0
	for _, v := range d.Versions {
		switch {
		case v.resting():
			continue
		case v.Label == "":
			if others++; others > maxVersions {
				p.More++
				continue
			}
		}
		p.List = append(p.List, v)
	}
	return p
}

// RestingVersions are the others.
func (d data) RestingVersions() part[Version] {
	return partOf(slices.DeleteFunc(slices.Clone(d.Versions), func(v Version) bool { return !v.resting() }), maxVersions)
}

func (v Version) resting() bool { return v.State == "closed" }

// Tone is how good the state of a version is.
func (v Version) Tone() string {
	switch {
	case v.State == "failed":
		return "bad"
	case v.State == "rolled-back":
		return "warn"
	case v.Label == "stable":
		return "good"
	case v.Label != "":
		return "accent"
	}
	return "plain"
}

// Name is the name of a partition as in the record's IDs.
func (p Partition) Name() string { return fmt.Sprintf("%s-%d", p.Topic, p.Number) }

// WorstPartitions has those first that are stuck, and then those with the highest lag, as far as
// some must be folded away: all that are shown keep their order, and do not jump about.
func (d data) WorstPartitions() part[Partition] {
	list := slices.Clone(d.Partitions)
	slices.SortStableFunc(list, func(a, b Partition) int {
		if (a.Stuck == "") != (b.Stuck == "") {
			return cmp.Compare(len(b.Stuck), len(a.Stuck)) // one of them is 0
		}
		return cmp.Compare(b.Lag, a.Lag)
	})
	byName := func(a, b Partition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Number, b.Number))
	}
	p := partOf(list, maxPartitions)
	shown := min(len(p.List), partitionsShown)
	slices.SortFunc(p.List[:shown], byName)
	slices.SortFunc(p.List[shown:], byName)
	return p
}

// A stuckReason is why some partitions are stuck.
type stuckReason struct {
	Reason     string
	Partitions []string
	More       int // partitions
}

// StuckReasons has each reason once, however many partitions are stuck for it. More counts
// partitions.
func (d data) StuckReasons() (reasons part[stuckReason]) {
	for _, p := range d.Partitions {
		if p.Stuck == "" {
			continue
		}
		i := slices.IndexFunc(reasons.List, func(r stuckReason) bool { return r.Reason == p.Stuck })
		switch {
		case i >= 0:
		case len(reasons.List) == maxStuckReasons:
			reasons.More++
			continue
		default:
			i, reasons.List = len(reasons.List), append(reasons.List, stuckReason{Reason: p.Stuck})
		}
		if r := &reasons.List[i]; len(r.Partitions) < maxStuckNames {
			r.Partitions = append(r.Partitions, p.Name())
		} else {
			r.More++
		}
	}
	return reasons
}

// A Share is a part of a bar.
type Share struct {
	Name       string
	Text       string
	X, Percent string // for SVG: where it begins, and how wide it is
	Class      string
}

// Shares are the parts of the process's memory, as a bar whose whole width is the limit, or what
// is resident where there is none.
func (m Memory) Shares() []Share {
	whole := float64(max(m.Limit, m.Resident, 1))
	var list []Share
	x := 0.0
	for i, part := range []struct {
		name  string
		bytes int64
	}{{"model", m.Model}, {"Go", m.Go}, {"library", m.Library}} {
		width := max(float64(part.bytes), 0) / whole
		list = append(list, Share{part.name, formatBytes(part.bytes), percent(x), percent(width), fmt.Sprintf("part-%d", i)})
		x += width
	}
	return list
}

// Shares are the stages of a record, as a bar whose whole width is their sum.
func (d Detail) Shares() []Share {
	whole := 0.0
	for _, t := range d.Timings {
		whole += max(t.Milliseconds, 0)
	}
	var list []Share
	x := 0.0
	for i, t := range d.Timings {
		width := max(t.Milliseconds, 0) / max(whole, 1e-9)
		list = append(list, Share{t.Name, formatMilliseconds(t.Milliseconds), percent(x), percent(width), fmt.Sprintf("part-%d", i%6)})
		x += width
	}
	return list
}

// Tone is how good the state of a record is.
func (r Record) Tone() string {
	switch r.State {
	case StateDeadLetter:
		return "bad"
	case StateAnswered:
		return "plain"
	}
	return "good"
}

// Details is the detail without the reason that stands before it on the page.
func (r Record) Details() string { return strings.TrimPrefix(r.Detail, r.Reason+": ") }

// Best are the classes that the page shows.
func (r Record) Best() []Class { return r.Classes[:min(len(r.Classes), classesShown)] }

// A card is what the template of one version gets.
type card struct {
	Version Version
	Now     time.Time
	Local   bool
}

var functions = template.FuncMap{
	"card":     func(d data, v Version) card { return card{v, d.Now, d.Local} },
	"bytes":    formatBytes,
	"clock":    func(t time.Time) string { return t.Format("15:04:05") },
	"count":    formatCount,
	"digest":   shortDigest,
	"duration": formatDuration,
	"join":     func(list []string) string { return strings.Join(list, ", ") },
	"left":     func(now, end time.Time) string { return formatDuration(max(end.Sub(now), 0)) },
	"ms":       formatMilliseconds,
	"percent":  percent,
	"rate":     formatRate,
	"short":    short,
	"score":    func(s float64) string { return strconv.FormatFloat(s, 'f', 2, 64) },
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"split": func(n int, list any) (parts [2]any, err error) { // the first n, and the rest
		switch l := list.(type) {
		case []Event:
			n = min(n, len(l))
			return [2]any{l[:n], l[n:]}, nil
		case []Partition:
			n = min(n, len(l))
			return [2]any{l[:n], l[n:]}, nil
		}
		return parts, fmt.Errorf("split: %T", list)
	},
	"eventsShown":     func() int { return eventsShown },
	"partitionsShown": func() int { return partitionsShown },
}

// percent returns a share, 0 to 1, as a width for SVG.
func percent(share float64) string {
	if math.IsNaN(share) {
		share = 0
	}
	return strconv.FormatFloat(100*min(max(share, 0), 1), 'f', 1, 64) + "%"
}

// formatBytes returns a size in the unit that leaves up to four digits.
func formatBytes(n int64) string {
	const mebibyte = 1 << 20
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%.0f GiB", float64(n)/(1<<30))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= mebibyte:
		return fmt.Sprintf("%.0f MiB", float64(n)/mebibyte)
	}
	return fmt.Sprintf("%.0f KiB", float64(max(n, 0))/1024)
}

// formatCount separates thousands.
func formatCount(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:] // a narrow space that does not break
	}
	return text
}

// formatDuration returns the two largest units of a duration.
func formatDuration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 24*3600:
		return fmt.Sprintf("%d h %d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %d h", s/(24*3600), s/3600%24)
}

// formatMilliseconds returns a latency with about three digits.
func formatMilliseconds(ms float64) string {
	switch {
	case ms >= 10_000:
		return strconv.FormatFloat(ms/1000, 'f', 0, 64) + " s"
	case ms >= 1000:
		return strconv.FormatFloat(ms/1000, 'f', 1, 64) + " s"
	case ms >= 10:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
}

// formatRate returns a rate, or a mean, with about three digits.
func formatRate(r float64) string {
	switch {
	case r == 0:
		return "0"
	case r >= 10:
		return formatCount(int64(math.Round(r)))
	case r < 0.1:
		return strconv.FormatFloat(r, 'f', 2, 64)
	}
	return strconv.FormatFloat(r, 'f', 1, 64)
}

// short shortens the digests in a text.
func short(text string) string {
	return digests.ReplaceAllStringFunc(text, func(d string) string { return "sha256:" + shortDigest(d) })
}

var digests = regexp.MustCompile(`sha256:[0-9a-f]{13,64}`)

// shortDigest returns enough of a digest to tell it from others.
func shortDigest(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(len(digest), 12)]
}
