// Package franz delivers exactly once, or at least once, on twmb/franz-go.
//
// # Exactly once
//
// Outputs, dead letters and the offsets of the inputs they come from are
// committed in one transaction. Readers that read committed records only see
// each answer once, whatever is killed, frozen or rebalanced; others also see
// the answers of transactions that were aborted. Of an input that is itself
// transactional, only committed records are read.
//
// franz-go's GroupTransactSession ends the transactions. It commits the
// offsets that were polled, and aborts when a rebalance comes in between;
// records that are worked on for long do not fit that, so:
//
//   - What is committed is the unbroken run of published records, not what was
//     polled: the request is rewritten before it goes out.
//   - A rebalance is held back until the records in flight are published and
//     committed, for at most stream.Config.DrainTimeout.
//   - A transaction that is aborted, for a record was refused or a coordinator
//     has moved, is published again from the outputs that were computed.
//     Handlers are not called again.
//   - A partition with an output that no topic takes stays out of the
//     transactions, with all that is behind it, until one does.
//
// When it is not certain how a transaction ended, the whole session with the
// brokers ends: a new one takes the same transactional id, which ends the old
// transaction one way or the other, and begins with the offsets that are
// committed then. Those records are handled again; nobody sees them twice.
//
// # At least once
//
// The session with the brokers is the same, without transactions. Each partition
// publishes by itself, as stream.Publisher does it, and the offsets of what is
// acknowledged are committed. Nothing can be taken back then: so a batch follows
// only when the one before it is written, and what a topic refuses is never
// overtaken. Each partition has a producer id, so that brokers recognise a batch
// that is sent again.
package franz
