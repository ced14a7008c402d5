package stream

import (
	"fmt"
	"time"
)

// A Start is where a group without offsets begins. The zero value is the earliest record.
type Start struct {
	Latest bool
	Time   time.Time // the first record that is as late or later; zero: see Latest
}

// UnmarshalText takes earliest, latest, or a time such as 2026-11-29T08:00:00Z.
func (s *Start) UnmarshalText(text []byte) error {
	switch value := string(text); value {
	case "earliest", "":
		*s = Start{}
	case "latest":
		*s = Start{Latest: true}
	default:
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return fmt.Errorf("%q is not %s", value, s.Form())
		}
		*s = Start{Time: t}
	}
	return nil
}

// Form says how a start is written.
func (Start) Form() string { return "earliest, latest, or a time such as 2026-11-29T08:00:00Z" }

// MarshalText is the opposite of UnmarshalText.
func (s Start) MarshalText() ([]byte, error) {
	switch {
	case !s.Time.IsZero():
		return s.Time.AppendFormat(nil, time.RFC3339), nil
	case s.Latest:
		return []byte("latest"), nil
	}
	return []byte("earliest"), nil
}

// IsEarliest tells whether the group begins at the earliest record.
func (s Start) IsEarliest() bool { return s == Start{} }
