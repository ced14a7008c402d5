package service

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unsafe"

	"inceptor/service/stream"
)

// A journalFile is the content of a journal's file, in the byte order of the
// machine: a head, and slots. What belongs together is one store, so that a
// process may be killed between any two.
type journalFile []byte

// The head: the magic, the count of crashes (4 bytes), the digest of the
// topics' names, the number of the version that is new in it, and the cgroup
// and its count of kills as they were when the last suspect was begun.
const (
	journalMagic = "INCJ0003"
	crashesAt    = len(journalMagic)
	topicAt      = 16
	versionAt    = topicAt + sha256.Size
	killsAt      = versionAt + 8
	headBytes    = 128
)

// A slot: offset, partition, sum, state and deaths in one, and which topic.
const (
	slotBytes    = 24
	partitionAt  = 8
	sumAt        = partitionAt + 4
	stateAt      = sumAt + 4
	whichAt      = stateAt + 4
	slots        = 2 * maxPlaces // half of them for suspects, as many as were under way
	journalBytes = headBytes + slots*slotBytes
)

// A slot is what the file holds of one record.
type slot struct {
	suspect
	state  slotState
	deaths uint8 // of the process while it was worked on alone
}

type slotState uint8

const (
	slotFree    slotState = iota
	slotAmong             // worked on, with others
	slotAlone             // worked on, alone
	slotSuspect           // to be worked on alone
	slotGuilty            // not to be worked on any more
)

// A suspect is one record. Its content counts: a topic may be made anew.
type suspect struct {
	topic     uint32 // a checksum of its name
	partition int32
	offset    int64
	sum       uint32
}

func suspectOf(r stream.Record) suspect {
	sum := crc32.Update(crc32.Checksum(r.Key, castagnoli), castagnoli, r.Value)
	return suspect{topicSum(r.Topic), int32(r.Partition), r.Offset, sum}
}

// A sourceOf is a partition, as the file has it.
type sourceOf struct {
	topic     uint32
	partition int32
}

func (s suspect) source() sourceOf { return sourceOf{s.topic, s.partition} }

// topicSum is a checksum of a topic's name.
func topicSum(name string) uint32 {
	return crc32.Checksum(unsafe.Slice(unsafe.StringData(name), len(name)), castagnoli) // a copy for each record would cost
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journalName is what the names of a group's journals begin with.
func journalName(group, topics string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(group+"\x00"+topics)))[:16]
}

// begin makes it an empty journal, unless it is one of these topics.
func (f journalFile) begin(topics string) {
	digest := sha256.Sum256([]byte(topics))
	if string(f[:crashesAt]) == journalMagic && bytes.Equal(f[topicAt:versionAt], digest[:]) {
		return
	}
	clear(f)
	copy(f[topicAt:], digest[:])
	copy(f, journalMagic)
}

// crashes counts how often native code has crashed the process; signal handlers
// count there.
func (f journalFile) crashes() *uint32 { return (*uint32)(unsafe.Pointer(&f[crashesAt])) }

// writtenZero is written for version 0, since zeros in the file are no version.
const writtenZero = -1

// version is the version that is new; not ok: none is.
func (f journalFile) version() (v int64, ok bool) {
	v = int64(binary.NativeEndian.Uint64(f[versionAt:]))
	if v == writtenZero {
		return 0, true
	}
	return v, v != 0
}

func (f journalFile) setVersion(v int64, ok bool) {
	switch {
	case !ok:
		v = 0
	case v == 0:
		v = writtenZero
	}
	binary.NativeEndian.PutUint64(f[versionAt:], uint64(v))
}

func (f journalFile) kills() killCount {
	return killCount{binary.NativeEndian.Uint64(f[killsAt:]), binary.NativeEndian.Uint64(f[killsAt+8:])}
}

func (f journalFile) setKills(c killCount) {
	binary.NativeEndian.PutUint64(f[killsAt:], 0) // of no cgroup
	binary.NativeEndian.PutUint64(f[killsAt+8:], c.kills)
	binary.NativeEndian.PutUint64(f[killsAt:], c.cgroup)
}

func (f journalFile) at(i int) []byte { return f[headBytes+i*slotBytes:][:slotBytes] }

func (f journalFile) slot(i int) slot {
	b := f.at(i)
	state := binary.NativeEndian.Uint32(b[stateAt:])
	return slot{
		suspect: suspect{
			offset:    int64(binary.NativeEndian.Uint64(b)),
			topic:     binary.NativeEndian.Uint32(b[whichAt:]),
			partition: int32(binary.NativeEndian.Uint32(b[partitionAt:])),
			sum:       binary.NativeEndian.Uint32(b[sumAt:]),
		},
		state: slotState(state), deaths: uint8(state >> 8),
	}
}

func (f journalFile) set(i int, s slot) {
	b := f.at(i)
	binary.NativeEndian.PutUint64(b, uint64(s.offset))
	binary.NativeEndian.PutUint32(b[whichAt:], s.topic)
	binary.NativeEndian.PutUint32(b[partitionAt:], uint32(s.partition))
	binary.NativeEndian.PutUint32(b[sumAt:], s.sum)
	f.setState(i, s.state, s.deaths)
}

func (f journalFile) setState(i int, state slotState, deaths uint8) {
	binary.NativeEndian.PutUint32(f.at(i)[stateAt:], uint32(state)|uint32(deaths)<<8)
}
