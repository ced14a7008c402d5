// Package franz delivers exactly once, or at least once, with twmb/franz-go.
//
// # Exactly once
//
// Outputs, dead letters and the offsets of the inputs that caused them are committed in
// one transaction. Readers of committed records see each answer once, whatever is killed,
// frozen or rebalanced. Other readers also see the answers of transactions that were
// aborted. If an input is itself transactional, only its committed records are read.
//
// franz-go's GroupTransactSession ends the transactions. It commits the offsets that were
// polled, and aborts if a rebalance comes in between. That does not suit records that take
// long, so this package changes it:
//
//   - It commits the unbroken stretch of published records, and not what was polled: it
//     rewrites the request before that is sent.
//   - A rebalance waits until the records in flight are published and committed, for at
//     most stream.Config.DrainTimeout.
//   - A transaction may be aborted because a record was refused or a coordinator has
//     moved. Then the same outputs are published again, and handlers are not called again.
//   - A partition with an output that no topic takes stays out of the transactions, with
//     everything that follows, until a topic takes it.
//
// If it is uncertain how a transaction ended, the whole session with the brokers ends. The
// next session takes the same transactional id, which ends the old transaction one way or
// the other, and begins at the offsets that are committed then. The records after them are
// handled again, and nobody sees their answers twice.
//
// # At least once
//
// With kafka.client=kafka-go, the default, at least once is package kafkago. With franz-go it
// is this package.
//
// The session with the brokers is the same, without transactions. Each partition publishes
// by itself, with a flight.Publisher, and the offsets of what is acknowledged are
// committed. Nothing can be taken back then. So a batch is sent only after the one before
// is written, and nothing overtakes a record that its topic refuses. Each partition has a
// producer id, by which brokers recognise a batch that is sent again.
//
// # Parts
//
// A Driver runs one session after the other. In a session, a membership hears what
// partitions the group gives; they make a generation. beginnings decides at which offsets
// a generation begins, a reader polls records into its partitions, and the session's loop
// lets a delivery publish and commit what the handlers have finished: exactlyOnce, with a
// transaction, or atLeastOnce. A lagWatch, an inputWatch and a joinWatch report the lag, and
// what the session waits for.
//
// Three types stand for transactions:
//
//	type                whose                                      who ends it
//	transaction         this session's                             its commit, by commit or abort
//	hangingTransaction  ours, half ended when a broker crashed     its end, before the next one
//	openTransaction     another producer's, in an input topic      that producer, or its timeout
package franz
