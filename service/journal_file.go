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

// A journalFile is the content of a journal's file: a head and slots, in the
// machine's byte order. Values that belong together are written by one store,
// because the process may be killed between any two stores.
type journalFile []byte

// The head holds the magic, how often native code crashed the process (4 bytes),
// the digest of the topics' names, the number of the unproven version, and the cgroup
// with its count of kills when the last suspect went into the model.
const (
	journalMagic = "INCJ0003"
	crashesAt    = len(journalMagic)
	topicAt      = 16
	versionAt    = topicAt + sha256.Size
	killsAt      = versionAt + 8
	headBytes    = 128
)

// A slot holds offset, partition and sum, then state and deaths in one value, and
// the topic's checksum.
const (
	slotBytes    = 24
	partitionAt  = 8
	sumAt        = partitionAt + 4
	stateAt      = sumAt + 4
	slotTopicAt  = stateAt + 4
	slots        = 2 * maxRecordsInModel // one half for records in the model, the other for as many suspects
	journalBytes = headBytes + slots*slotBytes
)

// A slot is what the file holds of one record.
type slot struct {
	suspect
	state  slotState
	deaths uint8 // of the process while the record was alone in the model
}

type slotState uint8

const (
	slotFree       slotState = iota
	slotConcurrent           // in the model with others
	slotAlone                // alone in the model
	slotSuspect              // to be handled alone
	slotGuilty               // never to be handled again
)

// A suspect identifies a record: by its content too, since a topic may be recreated.
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

// A sourceOf is a partition, as it is in the file.
type sourceOf struct {
	topic     uint32
	partition int32
}

func (s suspect) source() sourceOf { return sourceOf{s.topic, s.partition} }

// topicSum is a checksum of a topic's name.
func topicSum(name string) uint32 {
	return crc32.Checksum(unsafe.Slice(unsafe.StringData(name), len(name)), castagnoli) // without a copy for each record
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journalName returns the beginning of the names of a group's journals.
func journalName(group, topics string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(group+"\x00"+topics)))[:16]
}

// initialize empties the journal, unless it is of these topics.
func (f journalFile) initialize(topics string) {
	digest := sha256.Sum256([]byte(topics))
	if string(f[:crashesAt]) == journalMagic && bytes.Equal(f[topicAt:versionAt], digest[:]) {
		return
	}
	clear(f)
	copy(f[topicAt:], digest[:])
	copy(f, journalMagic)
}

// crashes counts how often native code has crashed the process. A signal handler
// increments it.
func (f journalFile) crashes() *uint32 { return (*uint32)(unsafe.Pointer(&f[crashesAt])) }

// writtenZero stands for version 0 in the file, where zero means no version.
const writtenZero = -1

// unproven returns the version that is on probation; with ok unset there is none.
func (f journalFile) unproven() (v int64, ok bool) {
	v = int64(binary.NativeEndian.Uint64(f[versionAt:]))
	if v == writtenZero {
		return 0, true
	}
	return v, v != 0
}

func (f journalFile) setUnproven(v int64, ok bool) {
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
	binary.NativeEndian.PutUint64(f[killsAt:], 0) // no cgroup, until both are written
	binary.NativeEndian.PutUint64(f[killsAt+8:], c.kills)
	binary.NativeEndian.PutUint64(f[killsAt:], c.cgroup)
}

func (f journalFile) slotAt(i int) []byte { return f[headBytes+i*slotBytes:][:slotBytes] }

func (f journalFile) slot(i int) slot {
	b := f.slotAt(i)
	state := binary.NativeEndian.Uint32(b[stateAt:])
	return slot{
		suspect: suspect{
			offset:    int64(binary.NativeEndian.Uint64(b)),
			topic:     binary.NativeEndian.Uint32(b[slotTopicAt:]),
			partition: int32(binary.NativeEndian.Uint32(b[partitionAt:])),
			sum:       binary.NativeEndian.Uint32(b[sumAt:]),
		},
		state: slotState(state), deaths: uint8(state >> 8),
	}
}

func (f journalFile) set(i int, s slot) {
	b := f.slotAt(i)
	binary.NativeEndian.PutUint64(b, uint64(s.offset))
	binary.NativeEndian.PutUint32(b[slotTopicAt:], s.topic)
	binary.NativeEndian.PutUint32(b[partitionAt:], uint32(s.partition))
	binary.NativeEndian.PutUint32(b[sumAt:], s.sum)
	f.setState(i, s.state, s.deaths)
}

func (f journalFile) setState(i int, state slotState, deaths uint8) {
	binary.NativeEndian.PutUint32(f.slotAt(i)[stateAt:], uint32(state)|uint32(deaths)<<8)
}
