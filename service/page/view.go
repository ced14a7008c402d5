package page

import "time"

// A Source tells what the page shows. Its methods are safe for concurrent use and cheap: they look
// at what is in memory, and wait for nothing.
type Source interface {
	// View returns the present state. It is called at most once a second, whatever the number of
	// viewers and requests.
	View() View
	// Samples returns the history, oldest first: one sample each SampleEvery.
	Samples() []Sample
	// Detail returns what is kept of a record; false: nothing is. Something is kept of those in
	// each View of the last 20 seconds.
	Detail(id string) (Detail, bool)
	// Thumbnail returns a JPEG of at most ThumbnailSide pixels a side; false: there is none.
	Thumbnail(id string) ([]byte, bool)
	// Watched tells that viewers are there, or that none is left. Thumbnails are only made while
	// there are some. It is called each time that changes, one call at a time.
	Watched(on bool)
}

// What the page keeps and shows at most.
const (
	MaxRecords    = 20               // latest records
	MaxPictures   = 24               // latest thumbnails; their records may be older than the latest
	MaxEvents     = 50               // on the time line
	MaxViewers    = 16               // with a connection each
	ThumbnailSide = 160              // pixels
	SampleEvery   = 5 * time.Second  // between two samples
	SampleSpan    = 15 * time.Minute // from the oldest sample to now
)

// A View is the state of the service at a moment. All its texts may come from outside: the page
// escapes them.
type View struct {
	Now     time.Time
	Up      time.Duration
	Name    string // of the program
	Version string // of the program

	Inputs             []string // topics
	Output, DeadLetter string   // topics

	Ready    bool
	Problems []Problem // what is wrong now, worst first

	Model   string // name, version and digest of what answers; empty: nothing does
	Assumed string // what of the serving version's preprocessing is assumed; empty: nothing

	Versions   []Version // the highest first
	Timeline   []Event   // the latest first, at most MaxEvents
	Partitions []Partition
	Memory     Memory
	Records    []Record // the latest first, at most MaxRecords
	Pictures   []Record // the latest first, at most MaxPictures of those that have a thumbnail
	Thumbnails bool     // http.thumbnails: pictures are shown
}

// Severities of a Problem.
const (
	SeverityError   = "error"   // records are not answered, or not delivered
	SeverityWarning = "warning" // records are answered, but not as they should be
)

// A Problem is one thing that is wrong now.
type Problem struct {
	Severity string
	What     string    // one sentence: subject, fact, consequence
	Since    time.Time // zero: not known
	Mend     string    // what to do about it; empty: nothing, it passes by itself
}

// A Version is one version of the model.
type Version struct {
	Number int64
	Label  string // stable, canary or shadow; empty: it answers nothing
	State  string // found, loading, warming, serving, standby, draining, closed, failed, rolled-back
	Chosen bool   // by hand, to serve

	Precision    string // float32, bfloat16 or int8; empty: as exported
	Trying       string // what is done to run it in another precision, and how far that is
	WhyPrecision string // why it runs in this one

	Gate   string // that it did not pass
	Reason string // why it failed, was rolled back, or waits
	Since  time.Time
	Retry  time.Time // when it is tried again; zero: when its files change
	Digest string
	Bytes  int64 // of its files; 0: not known

	Compared  int64   // records that it and the stable version have both answered
	Agreement float64 // share of them with the same best class, 0 to 1; only with Compared

	Slowdown      float64   // its latency, as a multiple of that of the version before; 0: not known
	ProbationEnds time.Time // zero: it is on none

	CanUse      bool // POST /models/use would make it serve
	CanRollBack bool // POST /models/rollback would take it back
}

// Kinds of an Event.
const (
	EventServing    = "serving"
	EventFailed     = "failed"
	EventRolledBack = "rolled-back"
	EventPrecision  = "precision"
	EventCanary     = "canary"
	EventShadow     = "shadow"
)

// An Event is a change of the versions.
type Event struct {
	At      time.Time
	Version int64
	Kind    string
	Text    string // what the version did, and why, such as "serves"; the version is the subject
}

// A Partition is one that this process works on.
type Partition struct {
	Topic    string
	Number   int
	Lag      int64  // records that are not answered yet; -1: not known
	InFlight int    // records that are read, and not published or part of a transaction yet
	Stuck    string // why it makes no progress, or none that is committed; empty: it does
}

// Memory is that of the process, in bytes. What is not known is 0.
type Memory struct {
	Resident int64
	Limit    int64 // of the machine or container
	Model    int64 // the variables of the loaded versions
	Go       int64 // heap and stacks of the program
	Library  int64 // the rest: TensorFlow's code, buffers and arenas
}

// States of a Record.
const (
	StateAnswered   = "answered"    // by the model; the broker has not acknowledged the answer yet
	StatePublished  = "published"   // the broker has acknowledged the answer
	StateDeadLetter = "dead letter" // with its reason
	StateForwarded  = "forwarded"   // a tombstone
	StateDropped    = "dropped"     // a tombstone
)

// A Record is one of the latest.
type Record struct {
	ID     string // topic-partition-offset
	At     time.Time
	Key    string
	State  string
	Reason string  // of a dead letter
	Detail string  // the source, arrays, or the error of a dead letter, in a few words
	Took   float64 // milliseconds from the read to the answer; 0: not known

	Version   int64   // that answered; 0: none
	Classes   []Class // best first; the page shows the first ones
	Thumbnail bool    // Source.Thumbnail has its picture
}

// A Class is a label with its score, 0 to 1.
type Class struct {
	Label string
	Score float64
}

// A Detail is all that is kept of one record.
type Detail struct {
	Record
	Answer  string // the value of the output record: JSON, indented
	Headers []Header
	Timings []Timing // in the order in which they passed
	Kcat    string   // the command that reads the input record again
}

// A Header is one of a record's.
type Header struct{ Name, Value string }

// A Timing is how long a stage took.
type Timing struct {
	Name         string
	Milliseconds float64
}

// A Sample is what happened in the SampleEvery before At.
type Sample struct {
	At          time.Time
	Records     float64            // a second
	P50, P99    float64            // milliseconds from the read to the answer; 0: no record
	Lag         int64              // of all partitions at At; negative: not known
	Batch       float64            // mean images a run of the model; 0: no run
	DeadLetters map[string]float64 // a second, by reason
}

// Milliseconds returns a duration as the page has it.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
